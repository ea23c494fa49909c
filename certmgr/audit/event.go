package audit

import (
	"log/slog"
	"time"
)

// An Event is one change of state, or a count of decisions on handshakes. Fields
// that do not apply are zero. No field ever holds a key; what strangers and CAs
// send is bounded and, in the text and JSON forms, escaped.
type Event struct {
	Seq  uint64    // counts all events of a Manager, from 1; a gap is a loss
	Time time.Time // when it happened, by the local clock
	Kind Kind

	Host    string // normalised host name
	KeyType string // "ECDSA" or "RSA"

	Decision Decision // on the host or the handshake
	Rule     string   // what made it: "Hosts: *.example.com", "HostPolicy", "AllowAnyHost", or a field that sets a bound
	Result   Result   // of the handshakes that were refused

	// Who asked: the visitor that an issuance began for, or an example of those
	// who were refused.
	RemoteAddr string // address of the peer
	SNI        string // server name as it was sent
	ALPN       string // protocols that were offered, joined by commas

	Attempt  string        // identifier of the issuance attempt
	Stage    Stage         // of the issuance
	Reason   string        // why, in words
	CA       string        // directory URL
	OrderURL string        // the CA's URL of the order
	Duration time.Duration // how long it took
	Serial   string        // of the certificate, in lower-case hex
	NotAfter time.Time     // the certificate's end
	RetryAt  time.Time     // the next attempt
	Count    int           // see the kind
	Total    int           // see the kind

	ExplanationURL string // the CA's page about why it wants a certificate renewed (RFC 9773, section 4.2)
	Err            error  // the cause
}

// A Decision is what was decided about a host.
type Decision string

// The decisions.
const (
	Allowed   Decision = "allowed"   // it is served, and certificates are issued for it
	Refused   Decision = "refused"   // it is neither
	Undecided Decision = "undecided" // HostPolicy could not tell: what is in service stays, nothing begins; or Preflight could not, which holds nothing back
)

// Failure reports whether the event tells of something that went wrong.
func (e Event) IsFailure() bool { return e.Level() >= slog.LevelWarn }

func (e Event) Level() slog.Level {
	switch e.Kind {
	case RenewalLate:
		if e.NotAfter.Sub(e.Time) <= loudLeft {
			return slog.LevelError
		}
		return slog.LevelWarn
	case IssuanceFailed, CertificateExpired, CAUnavailable, AccountUnavailable:
		return slog.LevelError
	case ClockOff, BackoffRestored, ChallengeFailed, PolicyFailed, CacheReadFailed,
		CacheEntryRejected, CacheWriteFailed, AccountContactFailed, EventsDropped, AllowlistRejected, HostUnreachable:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// loudLeft is what is left of a certificate when failing renewals become errors.
const loudLeft = 7 * 24 * time.Hour
