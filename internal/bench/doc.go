// Bench compares certmgr with autocert, certmagic and a baseline, which do the
// same work on the same machine in one run. From any directory of the checkout:
//
//	go run github.com/nostall/nostall/internal/bench
//
// It prints a table of medians, with ratios to certmgr. Flags: -run and
// -subjects select measurements and subjects, -rounds sets how often each is
// made, -base sets the subject that ratios refer to, -json names a file for
// every single value.
//
// # Subjects
//
//   - certmgr: a Manager with an Allowlist and its defaults, except for a
//     HandshakeWait that no measurement reaches.
//   - autocert: a Manager with its defaults and HostWhitelist.
//   - certmagic: on demand, with its defaults, except for a DecisionFunc that
//     looks in a map, and without its own limit of 10 certificates in 10 seconds,
//     which would dominate the issue measurements.
//   - static: a read-only map of parsed certificates. It is the baseline: what a
//     server could do if it never changed its certificates.
//
// # Why the comparison is fair
//
// Each value comes from its own process, so that no subject is affected by
// another one's heap, goroutines or package variables. The subjects take turns,
// round by round, so that a machine that becomes busy slows all of them. All
// serve the same names. All read the same certificates, made once for the whole
// run (a P-256 leaf and its intermediate in PEM), from a cache in memory that
// returns copies; each entry has the layout that the subject itself stores.
//
// Every call is made within a real TLS handshake, by the callback of a
// crypto/tls server that has read a ClientHello of Go's own client: the hello
// has a context and a connection, as in a server. The handshake ends there;
// what crypto/tls does afterwards is the same for all.
//
// Every subject has the same fake CA (certmgr/acmetest) on a loopback port over
// HTTPS. It runs in the subject's process, so that its share of the time is
// part of the values. It offers no renewal information (RFC 9773), since
// autocert does not ask for it. All subjects use tls-alpn-01 and answer it on a
// loopback port. Their HTTP transports are those that they use by default:
// autocert http.DefaultTransport, certmgr a copy of it with more idle
// connections, and certmagic one that it makes.
//
// Audit events and logs are discarded.
//
// A cpu value next to a time is the CPU time of the process, CA included. Other
// work on the machine affects it less than it affects the wall time. It is
// missing where the system does not report it.
//
// # Measurements
//
// hot: GetCertificate for names whose certificates are in memory, in random
// order, in as many goroutines as processors. ns/op is the wall time divided by
// the number of calls, so with two processors it halves if nothing is shared.
// With one host the heap is small, so that the garbage collector runs all the
// time for subjects that allocate.
//
// deny: a name that a user's function refuses: HostPolicy, DecisionFunc. 1,024
// names take turns. The function returns an error that was made before. With
// policy=any, nothing is known of it: certmgr bounds its time. With
// policy=nonblocking, certmgr is told that it does not block (NonBlocking); for
// the others that makes no difference. Static calls it directly.
//
// loaded: a start with a warm cache. load is the time from making the subject
// until every host had its first handshake, in as many goroutines as
// processors; static parses everything before the first one. heap is the growth
// of the live heap, divided by the number of hosts. It leaves out what keys
// compute at their first signature, since nothing is signed here.
//
// issue: a number of hosts without a certificate get their first clients at the
// same moment. wall is the time until the last client is served. requests is
// the number of requests to the CA, registration of the account included,
// divided by the number of certificates. With step=0s the CA does everything
// within the request that asks for it: the reply for a challenge already shows
// it valid, and the reply to finalize has the certificate. Otherwise the CA
// replies at once, and takes one step for a validation and one between finalize
// and the certificate.
//
// stall: the CA never answers newOrder for one host. Many callers ask for that
// host at the same moment, while one goroutine asks for another host without a
// pause. blocked is how many of the callers are still inside when the
// measurement ends; goroutines is how many more goroutines there are than
// before; refused is how long the other callers waited for their refusal. hot
// is the time of a call for the other host meanwhile, idle the same before;
// both include the two readings of the clock, some 50 ns.
package main
