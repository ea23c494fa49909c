// Package order holds one conversation with a CA: it makes an order for one host,
// proves control of it, has the certificate issued, and downloads its chain (RFC 8555,
// section 7.4). An order that an earlier conversation did not finish is gone on with.
//
// It knows one host and one client, whose account is there already. What it needs of
// the engine it gets as functions of a Request: the answers to challenges, the check
// before an order, the key to keep. It knows nothing of backoff, slots, certificates in
// memory, preflight or who waits for it. It starts no goroutine and keeps no state
// between conversations: what the next one needs is in the Result, and what is to be
// done when all is over is in a Cleanup that the caller owns.
package order
