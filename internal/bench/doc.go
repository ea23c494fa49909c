// Bench measures certmgr beside autocert, certmagic and a floor, doing the same
// work on the same machine in one run. From any directory of the checkout:
//
//	go run github.com/nostall/nostall/internal/bench
//
// It prints a table of medians, with ratios to certmgr. The flags choose what
// is run: -run and -subjects what, -rounds how often, -base what the ratios
// are to, -json a file with every single value.
//
// # Subjects
//
//   - certmgr: a Manager with an Allowlist and its defaults, but for a HandshakeWait
//     that no measurement reaches.
//   - autocert: a Manager with its defaults and HostWhitelist.
//   - certmagic: on demand, with a DecisionFunc that looks in a map, and without
//     its own limit of 10 certificates in 10 seconds, which is all that the issue
//     measurements would show otherwise. The rest is as by default.
//   - static: a map of parsed certificates that nobody writes to. It is the
//     floor: what a server could do that never changes its certificates.
//
// # Why the comparison is fair
//
// Each value comes from a process of its own, so that no subject finds another
// one's heap, goroutines or package variables; the subjects take turns, round by
// round, so that a machine that becomes busy slows all of them. All serve the
// same names. All read the same certificates, made once for the whole run (a
// P-256 leaf and its intermediate in PEM), from a cache in memory that hands out
// copies, each in the layout that it stores them in itself.
//
// Every call is made from within a real TLS handshake, by the callback of a
// crypto/tls server that has read a ClientHello of Go's own client: the hello has
// a context and a connection, as it has in a server. The handshake ends there;
// what crypto/tls does afterwards is the same for all.
//
// Every subject has the same fake CA (certmgr/acmetest) on a loopback port over
// HTTPS, in its own process, whose share of the time is in what is measured. It
// offers no renewal information (RFC 9773), which autocert would not ask for. All
// of them use tls-alpn-01, and answer it on a loopback port. Their HTTP
// transports are as their users have them: http.DefaultTransport, and the one
// that certmagic makes.
//
// Audit events and logs go nowhere.
//
// Where cpu stands beside a time, it is what the processors did for the process,
// CA included. It bears other work on the machine better than the time does.
// There is none where the system does not tell.
//
// # Measurements
//
// hot: GetCertificate for names whose certificates are in memory, in random
// order, in as many goroutines as processors. ns/op is the wall time over all
// calls, so with two processors it halves if nothing is shared. With one host
// the heap is small and the garbage collector runs all the time for whoever
// allocates.
//
// deny: a name that is refused by a function of the user's: HostPolicy,
// DecisionFunc. 1,024 names take turns. The function returns an error that was
// made before. Static calls it itself.
//
// loaded: a start with a warm cache. load is the time from making the subject
// until every host had its first handshake, in as many goroutines as processors;
// static parses everything before the first one. heap is what it added to the
// live heap, over the number of hosts. What the keys compute at their first
// signature is not in it, because nobody signs here.
//
// issue: that many hosts that have no certificate get their first visitors at
// the same moment. wall is the time until the last one is served. requests counts
// all that the CA was asked, the account's registration included, over the
// number of certificates. With step=0s the CA does everything within the request
// that asks for it: the answer to a challenge says that it is valid, and that to
// finalize has the certificate. Otherwise its answers come at once, a validation
// takes that long, and so does the CA between finalize and the certificate.
//
// stall: the CA never answers newOrder for one host. Many callers come for it at
// the same moment, while one goroutine asks for another host without a pause.
// blocked is how many of the callers are still inside when the time of the
// measurement is over, goroutines how many there are more than before they came,
// refused how long it took to turn the others away. hot is what a call for the
// other host took meanwhile, idle before; both hold the reading of the clock that
// they are measured with, some 50 ns.
package main
