// Package certmgr is a drop-in replacement for
// golang.org/x/crypto/acme/autocert in which no TLS handshake ever stalls on a
// certificate authority. One import line changes:
//
//	import autocert "github.com/nostall/nostall/certmgr"
//
// # A server
//
// A Manager needs to know which hosts to serve, and where to keep their
// certificates:
//
//	m := &certmgr.Manager{
//		Prompt: certmgr.AcceptTOS,
//		Cache:  certmgr.DirCache("/var/lib/certs"),
//		Hosts:  certmgr.MustAllowlist("example.com", "www.example.com"),
//	}
//
// Port 443 gets its certificates from the Manager. Port 80 is for http-01
// challenges and redirects to HTTPS:
//
//	site := &http.Server{
//		Addr:      ":443",
//		Handler:   handler,
//		TLSConfig: m.TLSConfig(),
//		ErrorLog:  m.ErrorLog(nil),
//	}
//	redirects := &http.Server{
//		Addr:    ":80",
//		Handler: m.HTTPHandler(nil),
//	}
//
// Start obtains certificates before the first visitors come, and Close ends
// everything. README.md and examples/server have the complete program, with
// errors and signals. Try it with LetsEncryptStagingURL first.
//
// # Stages of a handshake
//
// GetCertificate tries these stages in order and returns the first answer.
//
//   - name: if it is not a host name, the handshake fails and nothing else is
//     done. A client without SNI, or with an IP address as SNI, is for the
//     address that it connected to, if that is listed; see also DefaultHost and
//     PublicAddrs.
//   - challenge: a CA's tls-alpn-01 handshake is answered for hosts with a pending
//     challenge, and for allowed hosts from the Cache, where another machine may
//     have left the response.
//   - Certificates: the operator's own certificates, if there are any, whether or
//     not the host is on a list.
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
// If Manager.Fallback is set, clients of allowed hosts get that certificate in
// place of the last two kinds of errors.
//
// All waits of a handshake end HandshakeWait after it began (5 minutes for a
// hello without a context, unless HandshakeWait is set). What it has begun
// continues without it, and the issued certificate serves the next visitor.
//
// Renewal never runs in a handshake. Certificates in memory are renewed in the
// background, when the CA suggests it or with a third of their lifetime left.
// They are served until they expire, whatever happens to the CA, the Cache or
// the policy meanwhile.
//
// # Several Managers on one Cache
//
// Machines may share a Cache. Each finds there the certificates and unfinished
// orders of the others. If the Cache has no locks, two of them may still order for
// the same host at the same moment. They may register an account each if both start
// at once with an empty Cache. After writing an account key they read it again, and
// from then on use the one that is there; the other account stays unused.
//
// While the store of a cache.Layered is down, a Manager serves from local copies,
// and orders nothing. Within a minute after the store answers again, newer
// certificates take the place of those that came from copies, and what the store no
// longer has, because another machine has revoked it, is not served any more.
//
// Use one Manager per Cache in a process. Before you replace it, for example
// because settings have changed, call Close: until then it renews, retries and
// writes to the Cache. A closed Manager still serves the certificates in its
// memory.
//
// # Fleets
//
// If the Cache has locks (cache.Locker), the machines that share it are a fleet, and
// one of them issues for a host at a time. It holds a lease of Manager.Lease, which
// it extends until the certificate is stored.
//
//   - The others do not order. Their handshakes fail at once with an ErrInFlight
//     that names the machine (Manager.Machine), or wait for InFlightWait; Obtain
//     and Renew wait. An event, audit.IssuanceElsewhere, and HostStatus.Holder name
//     it too. They serve the certificate within a second of its being stored.
//   - If the machine dies, its lease ends by itself, and another one takes over
//     within 5 seconds of that. It resumes the order, if that was
//     ready to be finalized, and places another one before that.
//   - A machine that was paused, suspended or cut off for longer than its lease
//     stops before its next request to the CA, and the Cache refuses what it
//     writes. That does not count as a failure; it begins again.
//   - While the Cache cannot lock, nothing is ordered, also not for a certificate
//     that is about to expire: another machine may be ordering it. The error
//     wraps ErrCache. What is in memory is served.
//   - What the CA refused on one machine counts on all of them. What failed for
//     another reason does not: one machine's network or clock must not keep the
//     others from trying.
//
// All machines must have the same Lease. Their clocks may differ: leases go by the
// time of the store, and each machine measures its own.
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
//   - A program may call GetCertificate with a ClientHelloInfo of its own, which
//     has no context, to prefetch a certificate. It waits up to 5 minutes for an
//     issuance that the call begins, as with autocert, unless HandshakeWait is
//     set. If another call or a visitor began it, the program gets ErrInFlight at
//     once, where autocert waits, unless InFlightWait is set. Obtain waits in both
//     cases, for as long as its context allows: use it for prefetching.
//   - A failure is remembered, even across a restart, for the waits of
//     Manager.Backoff, where autocert retries every minute. A restart allows one
//     earlier attempt for the host, at most twice an hour. The record is in the
//     Cache under the host and "+failure". Hosts that neither Hosts nor
//     HostWhitelist has by their exact names share 1,000 keys, such as
//     "unlisted-123+failure"; a hash of the name selects one. The entry
//     "certmgr+visits" records when clients last asked for the entries of Hosts
//     (Manager.StaleHosts), and which key types they needed.
//   - Attempts whose outcome is unknown are limited to 5 an hour for a host,
//     except those of Obtain and Renew: the process ended meanwhile, or the host
//     left the list. For hosts on Hosts by their exact names, and for those of a
//     HostWhitelist, they are recorded under "+failure" too.
//   - Manager.OrderBudget limits the account's orders. How many were used is in
//     the Cache under "acme_ca+", a hash of the directory's URL and "+orders".
//   - If the Cache is a cache.Locker, machines that share it are a fleet. The
//     account is registered by one of them, and its key changed by one at a time.
//     What the CA told one machine holds for all: that a host failed, that it is
//     out of service, and when it suggests to renew, which is in the Cache under
//     the host and "+ari", or "+rsa+ari". A failure of one machine's network, clock
//     or Cache is its own. Hosts that wait for DNS are probed by one machine at a
//     time, and what it found is under the host and "+dns".
//   - If a certificate could not be downloaded, the next attempt resumes its
//     order, also after a restart or a crash, where autocert places another one.
//     Until the certificate is in the Cache, the order and its private key are
//     there under the host and "+order", or "+rsa+order".
//   - A Cache that refuses the keys that autocert does not have is reported and
//     otherwise works. Where such a key would exceed 200 bytes, the host in it is
//     replaced by the SHA-256 of the whole key in hexadecimal.
//   - HostPolicy's approval is valid at any age for a host in memory. After
//     PolicyTTL the policy is asked again in the background, where autocert asks
//     in each handshake. With MaxPolicyAge, or a negative PolicyTTL, the policy
//     is asked before a handshake is served on an older approval. Policies have 5
//     seconds to answer, and are not called concurrently for one host. They are
//     also asked before a renewal.
//   - TLSConfig sets GetConfigForClient, so that a CA's tls-alpn-01 handshake
//     succeeds although the server requires client certificates. For other
//     handshakes it returns nil.
//   - TLSConfig resumes TLS sessions only for hosts that are served, and only
//     sessions from after the last revocation; autocert resumes all of them. It
//     sets WrapSession and UnwrapSession for that, so ticket keys belong to the
//     returned configuration and not to its clones. If you use GetCertificate
//     alone, call MayResume.
//   - http-01 is tried before tls-alpn-01 if HTTPHandler is in use and it is known
//     that no server offers "acme-tls/1". See HTTPHandler.
//   - Challenge handshakes and http-01 requests reach the Cache only for allowed
//     hosts, and the policy gets the normalised host, without a port.
//   - HTTPHandler serves the response to a challenge of this process only for the
//     challenge's own host, as application/octet-stream (RFC 8555, section 8.3).
//     A response that another machine left in the Cache is served for any allowed
//     host, since its key there names none. Invalid tokens and those of more than
//     200 bytes are not looked up, and the reply is 503 if the Cache fails. Other
//     replies are fixed texts, where autocert exposes the errors of HostPolicy
//     and the Cache.
//   - HTTPHandler redirects to the normalised host. It replies 400 to a request
//     whose Host is missing or invalid, or whose target is not a path, where
//     autocert builds a URL from them all the same.
//   - Each certificate has a new key, where autocert reuses it for ever. KeepKey
//     reuses it.
//   - Authorizations of a failed order are left to expire, where autocert
//     deactivates them: another process with the same account may be using them.
//   - Certificates are renewed when the CA suggests it (RFC 9773), where autocert
//     uses only RenewBefore. Here RenewBefore is for CAs that suggest nothing.
//   - An expired certificate is not served. One that is not valid yet is served:
//     the CA dates it, so the local clock is behind.
//   - A certificate in the Cache from a CA for tests is replaced at once if the
//     configured CA is a real one, where autocert serves it until it expires.
//   - A damaged certificate entry in the Cache counts as missing, where some
//     damage is a permanent error in autocert. Cache calls time out after 5
//     seconds.
//   - A certificate that every client would reject is not accepted from the Cache
//     or the CA: one without serverAuth, one of a CA, one with an unknown critical
//     extension, and one whose chain does not contain its issuer. A leaf without
//     its issuer's certificate, or one that has expired, does not replace a good
//     one. Entries of more than 128 KiB, more than 16 certificates, and RSA keys
//     of more than 8,192 bits are rejected before they are parsed. autocert serves
//     all of these.
//   - A ClientHello with only TLS 1.3, or without any cipher suite, gets ECDSA,
//     where autocert issues RSA for it. Names with full-width dots are accepted,
//     where autocert rejects them. A valid certificate of the other key type is
//     served before one is issued. If a client that supports ECDSA was therefore
//     served RSA, the ECDSA certificate is issued in the background, for hosts on
//     Hosts by their exact names and those that HostPolicy approves. A
//     certificate on P-384 or P-521 is not served to clients that cannot verify
//     it. KeyType makes another type than P-256 the preferred one.
//   - A certificate whose private key cannot be exported (KeySource) is in the
//     Cache with its public key, under autocert's key. autocert counts it as
//     missing.
//   - Names of Hosts that are a group (Allowlist.AddGroup) share a certificate. The
//     Cache has it under "san-" and the SHA-256 of its sorted names, joined by
//     commas, in hexadecimal; autocert does not find it there, and orders one for
//     each name.
//   - If no client needed a certificate's key type during its whole lifetime, and
//     the host has a certificate of the other type, it is not renewed, where
//     autocert renews both for ever. It is issued again when a client needs it.
//   - RenewBefore cannot renew within the first half of a lifetime, where
//     autocert renews in a loop if RenewBefore exceeds the lifetime. Without it,
//     certificates of under 10 days are renewed with half of the lifetime left.
//   - Plain http to a CA on another machine requires PlainHTTP.
//   - Manager.Client is never changed, where autocert sets its Key and UserAgent.
//     Prompt is called without a lock held, once for each attempt to register.
//   - The certificate request has no common name if the host is longer than 64
//     characters, which is the maximum for one.
//   - Names that no CA would certify, with an empty or an invalid label, are
//     refused. Names that are too long are refused before they are mapped by
//     IDNA. An IP address is not a host name. Hosts may hold it as an address,
//     and a client without SNI may then get its certificate.
//   - No order is placed for reserved names (www.localhost, co.uk) or recursive
//     ones (at least four labels, of which two neighbours are equal), unless Hosts
//     or HostWhitelist has the exact name.
//   - A nil Prompt matters only if an account must be registered with a CA that
//     has terms of service.
//   - Errors have other texts, and failed cache writes are retried.
//   - DirCache refuses keys that are not plain file names. A key that is too long
//     for a file name is a miss. After Put has returned, the value survives a
//     power failure. A Manager removes temporary files that killed processes left
//     more than an hour ago.
//
// Everything else is meant to be the same, including cache keys and bytes: you
// can switch over, and back, without issuing anything again.
package certmgr
