// Package certmgr is a drop-in replacement for golang.org/x/crypto/acme/autocert
// in which no TLS handshake ever stalls on a certificate authority. One import
// line changes:
//
//	import autocert "github.com/nostall/nostall/certmgr"
//
// # A complete server
//
//	m := &certmgr.Manager{
//		Prompt: certmgr.AcceptTOS,
//		Cache:  certmgr.DirCache("/var/lib/certs"),
//		Hosts:  certmgr.MustAllowlist("example.com", "www.example.com"),
//		Email:  "ops@example.com",
//	}
//	m.Start(context.Background()) // have them ready before the first visitor
//	defer m.Close()
//	go http.ListenAndServe(":80", m.HTTPHandler(nil))
//	server := &http.Server{Addr: ":443", TLSConfig: m.TLSConfig(), Handler: handler}
//	log.Fatal(server.ListenAndServeTLS("", ""))
//
// # What a handshake goes through
//
// GetCertificate tries these stages in order and returns the first answer.
//
//   - name: no SNI, or no host name: an error, and nothing else is done.
//   - challenge: a CA's tls-alpn-01 handshake is answered for hosts with a live
//     challenge, and for allowed hosts from the Cache, where another machine
//     may have left the answer.
//   - Hosts: is the host on the allowlist?
//   - memory: a certificate that is valid now, for an allowed host. This is all
//     that a busy server ever does.
//   - policy: HostPolicy is asked for hosts that Hosts does not hold.
//   - load: the first visitor reads the Cache, others join that read. A Cache
//     that fails is an error and never leads to an order.
//   - failure: a host that is backing off gets the reason of the last failure and
//     the time of the next attempt, at once.
//   - issue: while somebody issues for the host: ErrInFlight, at once. Else this
//     handshake begins the issuance and waits for it, HandshakeWait at most. The
//     issuance goes on without it.
//
// Renewal never takes place in a handshake. Certificates in memory are renewed
// in the background, when the CA suggests or with a third of their lifetime left,
// and served until they expire, whatever happens to the CA, the Cache or the
// policy meanwhile.
//
// # What happens inside
//
// Manager.Audit gets an audit.Event for every change of state, in order; audit.Log,
// audit.JSON and audit.All are ready-made hooks. Refused handshakes are counted
// and make one event a minute for each audit.Result. Snapshot says how each
// host stands, Metrics says it in numbers; package status shows a page of it, and
// the module certmgr/prommetrics exports it to Prometheus. StaleHosts names the entries
// of the list that look as if they should be taken off, and Preflight finds a name
// that does not lead to this server before an order is spent on it.
//
// An Allowlist is built from names, from an iterator or from a file that is
// followed, and may be changed at any time; every change is an event with the
// caller's reason (Allowlist.Because).
//
// # Differences from autocert
//
// All of these are deliberate:
//
//   - Without Hosts and HostPolicy no host is allowed, where autocert allows
//     all; that let strangers use up the CA's limits. AllowAnyHost brings it back.
//     NewListener without domains allows none for the same reason.
//   - Handshakes fail fast, where autocert's wait up to 5 minutes behind each
//     other. See GetCertificate for the errors.
//   - A failure is remembered, also over a restart, by the waits of
//     Manager.Backoff, where autocert tries again each minute. Its record is in
//     the Cache under the host and "+failure". When the entries of Hosts were
//     last asked for is there too, under "certmgr+visits" (Manager.StaleHosts).
//   - A yes of HostPolicy holds for PolicyTTL for hosts in memory, where autocert
//     asks in each handshake; policies have 5 seconds to answer, and are not
//     called twice at the same time for one host. They are asked before a
//     renewal, too.
//   - Challenge requests and http-01 requests reach the Cache for allowed hosts
//     only, and the policy gets the normalised host, without a port.
//   - HTTPHandler gives the answer of a live challenge for its own host only, as
//     application/octet-stream (RFC 8555, section 8.3), has no cache read for what
//     is not a token or has more than 200 bytes, and answers 503 if the Cache fails.
//     Who gets no answer gets a fixed text, where autocert passes on the errors of
//     HostPolicy and the Cache.
//   - Each certificate has a fresh key, where autocert keeps one for ever; KeepKey
//     keeps it.
//   - Certificates are renewed when the CA suggests (RFC 9773), where autocert goes
//     by RenewBefore alone. That is for CAs which suggest nothing.
//   - An expired certificate is not served. One that is not valid yet is: the CA
//     dates it, so the local clock is behind.
//   - A damaged certificate entry in the Cache counts as missing, where some
//     damage is an error for ever in autocert. A Cache that hangs is given up
//     after 5 seconds.
//   - A ClientHello of TLS 1.3 alone, or without any cipher suite, gets ECDSA,
//     where autocert issues RSA for it, and so does a name whose dots IDNA makes,
//     of fullwidth ones, which autocert refuses. A valid certificate of the other key
//     type is served before one is issued.
//   - RenewBefore cannot renew within the first half of a lifetime, where
//     autocert renews in a loop if it exceeds the lifetime. Without it,
//     certificates of under 10 days are renewed with half of the lifetime left.
//   - Manager.Client is never changed, where autocert sets its Key and UserAgent.
//     Prompt is called without a lock held, and once for each try to register.
//   - The request for a certificate has no common name if the host is longer than
//     the 64 characters that one can have.
//   - Names with an empty label or without a valid label, that no CA would
//     certify, are refused by name, and what is too long by its length, before IDNA
//     is asked. An IP address is no host name.
//   - A nil Prompt matters only if an account has to be registered with a CA that
//     has terms of service.
//   - Errors have other texts, and cache writes that fail are tried again.
//   - DirCache refuses keys that are not plain file names. A key that is too long
//     for one is a miss.
//
// Everything else is meant to be the same, cache keys and bytes included: one can
// switch over, and back, without issuing anything again.
package certmgr
