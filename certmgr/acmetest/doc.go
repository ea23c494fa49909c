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
// # Renewal information, profiles, chains
//
// The CA tells when certificates should be renewed (ARI, RFC 9773), for each as Let's Encrypt would, or as
// [Server.SetRenewalWindow] says; [Server.Revoke] moves the window into the past. An order may name the certificate
// that it replaces, and only one order replaces a certificate; [CertID] is how both name it. The field NoRenewalInfo
// turns all of it off.
//
// The field Profiles holds the kinds of certificates that orders choose by name (draft-ietf-acme-profiles), such as
// those of [LetsEncryptProfiles]. With AlternateChains each certificate has several chains: see
// [Server.AlternateRoots].
//
// Accounts can be looked up, updated, deactivated and given another key, and list their orders, page by page if
// OrdersPerPage says so. [Server.ChangeTerms] changes the terms of service, so that orders are refused until
// [Server.AgreeToTerms].
//
// # Faults
//
// [Server.Stall], [Server.Delay], [Server.Drop], [Server.Truncate], [Server.Status], [Server.Respond], [Server.Garbage] and
// [Server.EndlessBody] break requests that fit a [Match]: an endpoint, a name, an account, the next n or those after n.
// [Server.Edit] changes or drops the real reply to such a request after the CA has acted on it. [Server.BadNonceRate] and
// [Server.ForgetNonces] make nonces fail, [Server.RetryAfter] sends any Retry-After with what is pending, and
// [Server.SetClockSkew] sets the CA's clock wrong.
//
// [Server.FailValidation], [Server.InvalidOrder], [Server.StuckProcessing] and [Server.FailFinalize] break the orders
// for a name, [Server.WrongName], [Server.WrongKey], [Server.WrongDates], [Server.WrongChain], [Server.EditCertificate]
// and [Server.EditChain] its certificates, the next n of them with [Times]. The name is a pattern as in
// [Server.Resolve], so "*" is every name. Each fault of a request or a name is a method that returns a function that
// ends the fault, which may be called more than once.
//
// # Rate limits
//
// The field RateLimits makes the CA refuse what is too much, such as with [LetsEncryptRateLimits]: with Retry-After, for
// as long as it takes by its clock, and with the exemptions that renewals have. It is off by default.
//
// # Observation
//
// [Server.Requests], [Server.Count], [Server.CountHost] and [Server.CountAccount] tell what the CA was asked,
// [Server.Issued] what it issued, [Server.Orders] what became of each order. [Server.WaitCount], [Server.WaitInFlight],
// [Server.WaitIssued] and [Server.WaitUntil] wait for it without a loop that sleeps. Print the server itself when a test
// fails: its String method is the log of requests, with the orders in flight and why others failed.
//
// # A year of renewals
//
// A user's test, in full. It takes a fraction of a second.
//
//	func TestYearOfRenewals(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			ca := acmetest.NewMemoryServer() // inside of the bubble
//			defer ca.Close()
//			manager := &certmgr.Manager{
//				Prompt: certmgr.AcceptTOS,
//				Hosts:  certmgr.MustAllowlist("www.example.com"),
//				Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
//			}
//			defer manager.Close()
//			ca.Resolve("www.example.com", acmetest.Target{TLSConfig: manager.TLSConfig()})
//
//			for day := range 365 {
//				cert, err := manager.GetCertificate(&tls.ClientHelloInfo{ServerName: "www.example.com"})
//				if err != nil {
//					t.Fatalf("day %d: %v\n%v", day, err, ca) // prints what the CA was asked
//				}
//				if left := time.Until(cert.Leaf.NotAfter); left < 28*24*time.Hour {
//					t.Fatalf("day %d: not renewed, %v left\n%v", day, left, ca)
//				}
//				time.Sleep(24 * time.Hour) // virtual
//			}
//			// 90 days each, renewed when 30 are left
//			if n := len(ca.IssuedFor("www.example.com")); n != 7 {
//				t.Errorf("%d certificates in a year, want 7", n)
//			}
//		})
//	}
package acmetest
