// Package renewal says when a certificate is to be renewed: by its dates, by what
// the CA suggests (RFC 9773), and how often the CA is asked for that; when a
// renewal that fails is to be reported; and what is due next (Agenda).
//
// It is arithmetic only: no I/O, no lock and no goroutine, and the time is a
// parameter. Who uses a Plan, a Lateness or an Agenda guards it. The package may
// know what a CA answers (internal/acmeclient) and nothing of hosts, caches or
// private keys.
package renewal
