// Package acmetest is a fake ACME certificate authority for unit tests, in the manner of net/http/httptest. It checks
// requests as strictly as RFC 8555 allows, validates for real, and misbehaves on demand.
//
// # Two ways in
//
// [NewServer] listens on a loopback port over HTTPS. [NewMemoryServer] uses no socket: the client that [Server.Client]
// returns calls the CA in a goroutine. With [Target] values that are called in memory as well, everything from
// the directory to the validation runs within a testing/synctest bubble, where a year of renewals takes
// milliseconds and time-outs are exact:
//
//	synctest.Test(t, func(t *testing.T) {
//		ca := acmetest.NewMemoryServer() // inside of the bubble
//		defer ca.Close()
//		ca.Resolve("*.example.com", acmetest.Target{TLSConfig: manager.TLSConfig()})
//		client := &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client(), Key: key}
//		...
//	})
//
// # Validation
//
// [Server.Resolve] says where names lead. When a challenge is accepted, the CA makes one real TLS handshake (tls-alpn-01,
// RFC 8737) or HTTP request (http-01) with the host, without retries, at once. A name that is not in the table does not
// exist, and its validation fails as it would in DNS.
//
// For dns-01 the CA looks at the records that a test's DNS provider writes with [Server.AddTXT]. It is the only type that
// a wildcard is offered; addresses (RFC 8738) are offered the two others. Names are plain strings throughout:
// "www.example.com", "*.example.com", "192.0.2.1", "2001:db8::1".
//
// # Faults
//
// [Server.Stall], [Server.Delay], [Server.Drop], [Server.Status], [Server.Garbage] and [Server.EndlessBody] break requests
// that fit a [Match]: an endpoint, a name, the next n. [Server.FailValidation], [Server.InvalidOrder],
// [Server.StuckProcessing], [Server.EditCertificate] and [Server.WrongKey] break what happens to a name. Each returns a
// function that ends the fault, which may be called more than once.
//
// # Observation
//
// [Server.Requests], [Server.Count] and [Server.CountHost] tell what the CA was asked, [Server.Issued] what it issued.
// Print the server itself when a test fails: its String method is the log of requests.
//
// # What it does not do yet
//
// There are no key rollover, list of orders, alternate chains, renewal information, profiles or rate limits.
package acmetest
