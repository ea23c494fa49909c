// Package renewal computes when to renew a certificate: from its dates and from
// what the CA suggests (RFC 9773). It also computes how often to ask the CA,
// when to report a renewal that keeps failing (Lateness), and what is due next
// (Agenda).
//
// It is arithmetic only: no I/O, no lock and no goroutine, and the time is a
// parameter. The owner of a Plan, a Lateness or an Agenda guards it. The
// package may know a CA's replies (internal/acmeclient) and nothing of hosts,
// caches or private keys.
package renewal
