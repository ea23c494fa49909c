// Package certmgr is a drop-in replacement for
// golang.org/x/crypto/acme/autocert in which no TLS handshake ever stalls on a
// certificate authority. One import line changes:
//
//	import autocert "github.com/nostall/nostall/certmgr"
//
// # A complete server
//
//	m := &certmgr.Manager{
//		Prompt: certmgr.AcceptTOS,
//		Cache:  certmgr.DirCache("/var/lib/certs"),
//		Hosts:  certmgr.MustAllowlist("example.com", "www.example.com"),
//		Email:  "ops@example.com", // yours: CAs refuse this one
//	}
//	m.Start(context.Background()) // have them ready before the first visitor
//	defer m.Close()
//	go http.ListenAndServe(":80", m.HTTPHandler(nil))
//	server := &http.Server{Addr: ":443", TLSConfig: m.TLSConfig(), Handler: handler}
//	log.Fatal(server.ListenAndServeTLS("", ""))
//
// # Stages of a handshake
//
// GetCertificate tries these stages in order and returns the first answer.
//
//   - name: without SNI, or if it is not a host name, the handshake fails and
//     nothing else is done.
//   - challenge: a CA's tls-alpn-01 handshake is answered for hosts with a pending
//     challenge, and for allowed hosts from the Cache, where another machine may
//     have left the response.
//   - Hosts: is the host on the allowlist?
//   - memory: a certificate that is valid now, for an allowed host. On a busy
//     server nearly every handshake ends here.
//   - policy: HostPolicy is asked about hosts that are not in Hosts.
//   - load: the first handshake reads the Cache, and others join that read. If the
//     Cache fails, the handshake gets an error; no order is placed.
//   - failure: if the host is backing off, the handshake fails at once, with the
//     reason of the last failure and the time of the next attempt.
//   - issue: if an issuance for the host is in flight, the handshake fails at once
//     with ErrInFlight. Otherwise it begins the issuance and waits for it.
//
// All waits of a handshake end HandshakeWait after it began (5 minutes for a hello
// without a context, unless HandshakeWait is set). What it has begun
// continues without it, up to the issuance, and serves the next visitor.
//
// Renewal never runs in a handshake. Certificates in memory are renewed in the
// background, when the CA suggests it or with a third of their lifetime left.
// They are served until they expire, whatever happens to the CA, the Cache or
// the policy meanwhile.
//
// # Several Managers on one Cache
//
// Machines may share a Cache. Each finds there what another one has issued, and
// whose order is in progress. Nothing keeps two of them from ordering for the
// same host at the same moment, or from registering an account each, if both
// start at once with an empty Cache: that needs a lock, which a Cache does not
// have. They read the account's key again after they wrote it, and use the one
// that is there from then on; the other account stays unused.
//
// In one process, have one Manager for a Cache. To replace it, for example by
// one with other settings, Close it first: until then it renews, retries and
// writes to the Cache. Certificates in its memory are served even after that.
//
// # Observing a Manager
//
// Manager.Audit gets an audit.Event for every change of state, in order;
// audit.Log, audit.JSON and audit.All are ready-made hooks. Refused handshakes
// are counted and coalesced into one event a minute for each audit.Result.
// Snapshot returns the state of each host and Metrics the numbers; package
// status shows them on a page, and the module certmgr/prommetrics exports them
// to Prometheus. StaleHosts lists entries of the allowlist that should perhaps
// be removed. Preflight finds names that do not lead to this server before an
// order is placed for them.
//
// An Allowlist is built from names, from an iterator or from a file that it
// follows, and may be changed at any time. Every change is an event with the
// caller's reason (Allowlist.Because).
//
// # Differences from autocert
//
// All of these are deliberate:
//
//   - Without Hosts and HostPolicy no host is allowed. autocert then allows all
//     hosts, which lets strangers use up the CA's rate limits; AllowAnyHost does
//     the same here. NewListener without domains allows none for the same reason.
//   - Handshakes fail fast, where autocert's wait up to 5 minutes behind each
//     other. See GetCertificate for the errors.
//   - A program that prefetches by GetCertificate, with a ClientHelloInfo that it
//     makes and that has no context, waits up to 5 minutes for the issuance that
//     the call begins, as with autocert, unless HandshakeWait is set. If another
//     call or a visitor began it, the program gets ErrInFlight at once, where
//     autocert's waits, unless InFlightWait is set. Obtain waits in both cases, for
//     as long as its context allows: it is the right call for prefetching.
//   - A failure is remembered, even across a restart, for the waits of
//     Manager.Backoff, where autocert retries every minute. A restart earns the
//     host one attempt before that, twice an hour at most. The record is in the
//     Cache under the host and "+failure"; for hosts that neither Hosts nor
//     HostWhitelist has by their exact names, under one of 1,000 keys such as
//     "unlisted-123+failure", which a hash of the name chooses. The entry "certmgr+visits" says when
//     the entries of Hosts were last asked for (Manager.StaleHosts), and by clients of
//     which key type.
//   - Attempts whose outcome is not known, because the process ended or the host
//     left the list meanwhile, or because it was forgotten with the host, count
//     too: 5 an hour for a host, but for Obtain and Renew. The Cache has them
//     under "+failure", for hosts on Hosts by their exact names and those of a
//     HostWhitelist.
//   - The account's orders are rationed by Manager.OrderBudget. What is used of
//     it is in the Cache under "acme_ca+", a hash of the directory's URL and
//     "+orders".
//   - An order whose certificate has not arrived is resumed by the next attempt,
//     also after a restart or a crash, where autocert orders another one. Until
//     the certificate is in the Cache, the order and its private key are there
//     under the host and "+order", or "+rsa+order".
//   - A Cache that refuses the keys that autocert does not have is reported and
//     otherwise works. Where such a key would exceed 200 bytes, the host in it is
//     replaced by the SHA-256 of the whole key in hexadecimal.
//   - HostPolicy's approval serves a host in memory whatever its age, and after
//     PolicyTTL the policy is asked again in the background, where autocert asks
//     in each handshake. With MaxPolicyAge, or a negative PolicyTTL, the policy
//     is asked before a handshake is served on an older one. Policies have 5
//     seconds to answer, and are not called concurrently for one host. They are
//     asked before a renewal, too.
//   - TLSConfig sets GetConfigForClient too: a CA's tls-alpn-01 handshake passes
//     although the server requires client certificates. For other handshakes it
//     returns nil.
//   - TLSConfig resumes TLS sessions only of hosts that are served, and none from
//     before a revocation, where autocert's clients with a session are served on.
//     Its WrapSession and UnwrapSession are set for that: ticket keys belong to the
//     returned configuration, and not to its clones. With GetCertificate alone, call
//     MayResume.
//   - http-01 is tried before tls-alpn-01 if HTTPHandler is in use and it is known
//     that no server offers "acme-tls/1". See HTTPHandler.
//   - Challenge handshakes and http-01 requests reach the Cache only for allowed
//     hosts, and the policy gets the normalised host, without a port.
//   - HTTPHandler serves the response to a challenge of this process only for the
//     challenge's own host, as application/octet-stream (RFC 8555, section 8.3). One
//     that another machine left in the Cache is for any allowed host, since its key
//     there names none. HTTPHandler does not look
//     up invalid tokens or those of more than 200 bytes, and replies 503 if the
//     Cache fails. Other replies are fixed texts, where autocert exposes the
//     errors of HostPolicy and the Cache.
//   - HTTPHandler's redirect has the normal form of the host. It replies 400 to a
//     request whose Host is missing or not valid, or whose target is not a path, where
//     autocert appends what there is.
//   - Each certificate has a new key, where autocert keeps one for ever. KeepKey
//     keeps it.
//   - Authorizations of a failed order are left to expire, where autocert
//     deactivates them: another process with the same account may be using them.
//   - Certificates are renewed when the CA suggests it (RFC 9773), where autocert
//     uses only RenewBefore. Here RenewBefore is for CAs that suggest nothing.
//   - An expired certificate is not served. One that is not valid yet is served:
//     the CA dates it, so the local clock is behind.
//   - A certificate in the Cache from a CA for tests is replaced at once if the
//     configured CA is a real one, where autocert serves it to its end.
//   - A damaged certificate entry in the Cache counts as missing, where some
//     damage is a permanent error in autocert. Cache calls time out after 5
//     seconds.
//   - A certificate that every client refuses is not accepted, neither from the
//     Cache nor from the CA: one without serverAuth, that of a CA, one with an
//     unknown critical extension, or with certificates in its chain of which
//     none is its issuer's. A leaf without its issuer's certificate, and one that
//     has ended, does not take the place of a good one. Entries of more than 128
//     KiB, more than 16 certificates, and RSA keys of more than 8,192 bits are
//     refused before they are parsed. autocert serves all of these.
//   - A ClientHello with only TLS 1.3, or without any cipher suite, gets ECDSA,
//     where autocert issues RSA for it. Names with full-width dots are accepted,
//     where autocert refuses them. A valid certificate of the other key type is
//     served before one is issued. If a client that takes ECDSA was served RSA so,
//     the ECDSA certificate is issued in the background, for hosts on Hosts by
//     their exact names and those that HostPolicy approves.
//   - A certificate whose key type no client needed for as long as it lasts is not
//     renewed if the host has one of the other key type, where autocert renews both
//     for ever. It is issued again when a client needs it.
//   - RenewBefore cannot renew within the first half of a lifetime, where
//     autocert renews in a loop if RenewBefore exceeds the lifetime. Without it,
//     certificates of under 10 days are renewed with half of the lifetime left.
//   - A CA on another machine is reached by plain http only with PlainHTTP.
//   - Manager.Client is never changed, where autocert sets its Key and UserAgent.
//     Prompt is called without a lock held, and once for each try to register.
//   - The certificate request has no common name if the host is longer than the
//     64 characters allowed in one.
//   - Names with an empty label or without a valid label, which no CA would
//     certify, are refused, and names that are too long are refused by their
//     length, before IDNA. An IP address is not a host name.
//   - No order is placed for reserved names (www.localhost, co.uk), and for
//     recursive ones (at least four labels, two in a row equal), unless Hosts or
//     HostWhitelist has the exact name.
//   - A nil Prompt matters only if an account must be registered with a CA that
//     has terms of service.
//   - Errors have other texts, and failed cache writes are retried.
//   - DirCache refuses keys that are not plain file names. A key that is too long
//     for one is a miss. A value survives a power failure once Put has returned,
//     and a Manager removes temporary files that killed processes left more than
//     an hour ago.
//
// Everything else is meant to be the same, including cache keys and bytes: you
// can switch over, and back, without issuing anything again.
package certmgr
