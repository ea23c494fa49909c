// Package order holds one conversation with a CA: it places an order for one
// host, proves control of it, has the certificate issued, and downloads its
// chain (RFC 8555, section 7.4). It resumes an order that an earlier
// conversation did not finish.
//
// It knows one host and one client, whose account exists already. What it needs
// from the engine are functions of a Request: the answers to challenges, the
// check before an order, the key to keep. It knows nothing of backoff, slots,
// certificates in memory, preflight or callers. It starts no goroutine and
// keeps no state between conversations: what the next one needs is
// given to Request.Keep, and the clean-up is in a Cleanup that the caller owns.
package order
