// Package acmetest is a fake ACME certificate authority for unit tests, in the
// manner of net/http/httptest. It checks requests as strictly as RFC 8555
// allows, performs real validations, and misbehaves on demand.
//
// # A first test
//
// The CA validates the server under test and issues its certificate;
// [Server.Visitor] returns a client that visits the server by name and verifies
// that certificate:
//
//	func TestSite(t *testing.T) {
//		ca := acmetest.NewServer()
//		defer ca.Close()
//		m := newManager(&acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()})
//		defer m.Close()
//		ca.Resolve("example.com", acmetest.Target{TLSConfig: m.TLSConfig(), HTTPSHandler: site})
//		res, err := ca.Visitor().Get("https://example.com/")
//		if err != nil || res.StatusCode != http.StatusOK {
//			t.Fatalf("%v, error %v\n%v", res, err, ca)
//		}
//		res.Body.Close()
//	}
//
// # Two ways to run it
//
// [NewServer] listens on a loopback port over HTTPS. [NewMemoryServer] uses no
// socket: the client that [Server.Client] returns calls the CA in a goroutine.
// With in-memory [Target] values, everything from the directory to the
// validation runs in a testing/synctest bubble, where a year of renewals takes
// milliseconds and time-outs are exact:
//
//	synctest.Test(t, func(t *testing.T) {
//		ca := acmetest.NewMemoryServer() // inside the bubble
//		defer ca.Close()
//		ca.Resolve("*.example.com", acmetest.Target{TLSConfig: manager.TLSConfig()})
//		client := &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client(), Key: key}
//		...
//	})
//
// # Validation
//
// [Server.Resolve] says where names lead. When a challenge is accepted, the CA
// immediately makes one real TLS handshake (tls-alpn-01, RFC 8737) or HTTP
// request (http-01) to the host, without retries. A name without an entry does
// not exist, and its validation fails as it would in DNS.
//
// For dns-01 the CA reads the records that a test's DNS provider writes with
// [Server.AddTXT]. Wildcards are offered dns-01 only; IP addresses (RFC 8738)
// are offered the other two types. Names are plain strings everywhere:
// "www.example.com", "*.example.com", "192.0.2.1", "2001:db8::1". Any spelling
// will do, such as "WWW.Example.com." or "bücher.example". A name, an endpoint
// or a challenge type that cannot exist panics, for a fault or a count that
// fits nothing would let a test pass that tests nothing.
//
// # Renewal information, profiles, chains
//
// The CA says when to renew each certificate (ARI, RFC 9773), as Let's Encrypt
// would, or as set by [Server.SetRenewalWindow]; [Server.Revoke] moves the
// window into the past. An order may name the certificate that it replaces, and
// only one order replaces a certificate; [CertID] returns the identifier that
// both use. The field NoRenewalInfo turns all of this off.
//
// The field Profiles holds the kinds of certificates that orders choose by name
// (draft-ietf-acme-profiles), such as those of [LetsEncryptProfiles]. With
// AlternateChains each certificate has several chains: see
// [Server.AlternateRoots].
//
// Accounts can be looked up, updated, deactivated and given a new key. They
// list their orders, in pages if OrdersPerPage is set. [Server.ChangeTerms]
// changes the terms of service: orders are then refused until
// [Server.AgreeToTerms]. [Server.DeactivateAccount] ends an account.
//
// # Faults
//
// [Server.Stall], [Server.Delay], [Server.Drop], [Server.Truncate],
// [Server.Status], [Server.Respond], [Server.Garbage] and [Server.EndlessBody]
// break requests that fit a [Match]: an endpoint, a name, an account, the next
// n or those after n. [Server.Edit] changes or drops the real reply to such a
// request after the CA has acted on it. [Server.BadNonceRate] and
// [Server.ForgetNonces] make nonces fail, [Server.RetryAfter] sends any
// Retry-After for pending resources, and [Server.SetClockSkew] makes the CA's
// clock wrong.
//
// [Server.FailValidation], [Server.InvalidOrder], [Server.StuckProcessing] and
// [Server.FailFinalize] break the orders for a name; [Server.WrongName],
// [Server.WrongKey], [Server.WrongDates], [Server.WrongChain],
// [Server.EditCertificate] and [Server.EditChain] break its certificates.
// [Times] limits them to the next n. The name is a pattern as in
// [Server.Resolve], so "*" matches every name.
//
// Each of these methods returns a [Fault], which can be lifted and tells how
// often it has acted. A fault that never acted often means a test that tests
// nothing: the server's String method names them all.
//
// # What real CAs do
//
// Clients meet these sooner or later. Each can be had by name; those without a
// method are fields of [Server].
//
//   - Accepting a challenge twice is refused with 409: [Server.RefuseSecondAccept].
//   - An order that is pending or ready is returned again, and so are
//     authorizations: [Server.ReuseOrder], [Server.ReusePendingAuthorization], and
//     the field ReuseAuthorizations for valid ones.
//   - The account is blocked, in the words of Let's Encrypt, ZeroSSL or step-ca:
//     [Server.BlockAccount]. [Server.DeactivateAccount] ends it for good.
//   - A name is paused until a human follows a link: [Server.PauseName].
//   - Names are rejected, with a list of them: [Server.RejectName].
//   - What has just been created is not found, and what has changed looks as
//     before: [Server.ReplicationLag].
//   - A success has an unusual status: [Server.SuccessStatus].
//   - A finalized order is still "ready", or "processing" for long:
//     [Server.StaysReady], [Server.StuckProcessing], and the field Processing.
//   - A gateway answers with HTML: [Server.GatewayPage].
//   - The connection is cut before the CA acts, after it has acted, or in the
//     reply's body: [Server.Drop], [Server.DropReply], [Server.Truncate].
//   - The chain has certificates twice, roots that certify each other, or other
//     ways: [Server.DuplicateChain], [Server.CrossSignedChain], [Server.EditChain],
//     and the field AlternateChains.
//   - URLs are relative: [Server.RelativeURLs].
//   - Replies have no Location: [Server.NoLocation]. Those to finalize have none
//     unless the field FinalizeLocation is set.
//   - Retry-After is a date, by the field RetryAfterDates, or nonsense, by
//     [Server.RetryAfter].
//   - Validation is slow, or a second perspective of the CA disagrees:
//     [Server.SlowValidation], [Server.FailSecondaryValidation].
//   - Orders have notBefore and notAfter: the field RequestedDates.
//
// # Rate limits
//
// The field RateLimits makes the CA enforce rate limits, such as
// [LetsEncryptRateLimits]: refusals carry a Retry-After, last as long as the
// limit needs by the CA's clock, and renewals are exempt as in reality. It is
// off by default.
//
// # Observation
//
// [Server.Requests], [Server.Count], [Server.CountHost] and
// [Server.CountAccount] report the requests that the CA received,
// [Server.Issued] the certificates that it issued, [Server.Orders] the state of
// each order. [Server.WaitCount], [Server.WaitInFlight], [Server.WaitIssued]
// and [Server.WaitUntil] wait without sleeping in a loop. Print the server
// itself when a test fails: its String method returns the log of requests, with
// the orders in flight, the causes of failures and the faults that never acted.
//
// # Real binaries and other languages
//
// A program needs two things of a CA that [NewServer] has started: the URL, and
// a file with [Server.RootPEM], which is the root of the URL's certificate and
// of all that are issued. How a program takes the file differs:
//
//	SSL_CERT_FILE=root.pem        # OpenSSL and what uses it, Go on Linux, Python's ssl
//	REQUESTS_CA_BUNDLE=root.pem   # Python's requests, so certbot
//	CURL_CA_BUNDLE=root.pem       # curl, so dehydrated and acme.sh
//	LEGO_CA_CERTIFICATES=root.pem # lego
//	NODE_EXTRA_CA_CERTS=root.pem  # Node.js
//	acme_ca_root root.pem         # Caddy
//	MDCACertificateFile root.pem  # Apache's mod_md
//
// Set Listener for an address that is known beforehand, Hostname for a name in
// the URLs, and Root for a root that stays the same, as in a container's image.
// [Server.Stop] and [Server.Restart] are an outage: connections are refused,
// and then the same CA is back. Package dnstest, below this one, serves the
// records over DNS and takes dynamic updates (RFC 2136); with the field
// DNSServer, the CA validates dns-01 by the records of another DNS server.
//
// The command acmetest is all of that with flags, for tests without any Go. It
// prints its URLs, and listens where Pebble does:
//
//	go run github.com/nostall/nostall/certmgr/acmetest/cmd/acmetest@latest \
//		-root root.pem -http-port 5002 -tls-port 5001 -dns 127.0.0.1:8053
//	curl --cacert root.pem https://127.0.0.1:14000/directory
//
// Every name leads to 127.0.0.1, so these commands obtain, renew and revoke a
// certificate, without any right of root. http-01, by a port of the client's:
//
//	export REQUESTS_CA_BUNDLE=root.pem LEGO_CA_CERTIFICATES=root.pem CURL_CA_BUNDLE=root.pem
//	certbot="certbot --server https://127.0.0.1:14000/directory -n --config-dir c --work-dir c --logs-dir c"
//	$certbot certonly --standalone --http-01-port 5002 --agree-tos --register-unsafely-without-email -d www.example.com
//	$certbot renew --force-renewal --no-random-sleep-on-renew
//	$certbot revoke --cert-name www.example.com
//
//	lego="lego --server https://127.0.0.1:14000/directory --path l --accept-tos --email a@example.com -d lego.example.com"
//	$lego --http --http.port 127.0.0.1:5002 run
//	$lego --http --http.port 127.0.0.1:5002 renew --days 1000 --no-random-sleep
//	$lego revoke
//
// http-01, by any server of files at port 5002, such as "python3 -m http.server
// -d www 5002":
//
//	echo "CA=https://127.0.0.1:14000/directory BASEDIR=$PWD/d WELLKNOWN=$PWD/www/.well-known/acme-challenge" >config
//	mkdir -p d www/.well-known/acme-challenge
//	dehydrated -f config --register --accept-terms
//	dehydrated -f config --cron --domain dehydrated.example.com
//	dehydrated -f config --revoke d/certs/dehydrated.example.com/cert.pem
//
// dns-01, by dynamic updates:
//
//	export RFC2136_NAMESERVER=127.0.0.1:8053
//	$lego -d '*.example.com' --dns rfc2136 --dns.resolvers 127.0.0.1:8053 --dns.disable-cp run
//
// These and other clients run against this package in CI: see
// internal/integration.
//
// # A year of renewals
//
// This is a complete test of a user. It takes a fraction of a second.
//
//	func TestYearOfRenewals(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			ca := acmetest.NewMemoryServer() // inside the bubble
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
//					t.Fatalf("day %d: %v\n%v", day, err, ca) // prints the log of requests
//				}
//				if left := time.Until(cert.Leaf.NotAfter); left < 28*24*time.Hour {
//					t.Fatalf("day %d: not renewed, %v left\n%v", day, left, ca)
//				}
//				time.Sleep(24 * time.Hour) // virtual
//			}
//			// 90 days each, renewed with 30 days left
//			if n := len(ca.IssuedFor("www.example.com")); n != 7 {
//				t.Errorf("%d certificates in a year, want 7", n)
//			}
//		})
//	}
package acmetest
