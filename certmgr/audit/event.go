package audit

import (
	"log/slog"
	"time"
)

// An Event is one change of state, or a count of decisions on handshakes.
// Fields that do not apply are zero. No field ever holds a private key. Text
// from clients and CAs is bounded, and escaped in the text and JSON forms.
type Event struct {
	Seq  uint64    // numbers the events of a Manager from 1; a gap means lost events
	Time time.Time // when it happened, by the local clock
	Kind Kind

	Host    string // normalised host name; of a group its first name
	Names   string // the further names of a group's certificate or order, separated by spaces
	KeyType string // "ECDSA" or "RSA"; for a certificate of the operator's own also "Ed25519"

	Decision Decision // on the host or the handshake
	Rule     string   // what decided: "Hosts: *.example.com", "HostPolicy", "AllowAnyHost", or the field that sets a limit
	Result   Result   // of the refused handshakes

	// The client that asked: the one whose handshake began the issuance, or an
	// example of the refused ones.
	RemoteAddr string // the client's address
	SNI        string // server name as sent by the client
	ALPN       string // protocols offered, joined by commas

	Actor string // who asked for it by Manager.Act, as the program that identified them names them

	Attempt  string        // identifier of the issuance attempt
	Stage    Stage         // of the issuance
	Reason   string        // why, in words
	CA       string        // directory URL
	OrderURL string        // the CA's URL of the order
	Profile  string        // that the order asks for, or that the certificate's order has, if the CA says it
	Duration time.Duration // how long it took
	Serial   string        // of the certificate, in lower-case hex
	NotAfter time.Time     // when the certificate expires
	RetryAt  time.Time     // when the next attempt is due
	Count    int           // see the kind
	Total    int           // see the kind

	State          string // of the host: "paused" or "rejected" after a failure, if the CA refuses it until somebody acts, or "waiting_for_dns"
	ExplanationURL string // the CA's page on why to renew (RFC 9773, section 4.2), or that ends a pause
	Err            error  // the cause
	Stack          string // where a callback panicked: the functions on the stack, innermost first, in one line of at most 4 KB
}

// A Decision is what was decided about a host.
type Decision string

// The decisions.
const (
	Allowed   Decision = "allowed"   // it is served, and certificates are issued for it
	Refused   Decision = "refused"   // it is neither
	Undecided Decision = "undecided" // HostPolicy failed: existing certificates stay in service, no issuance begins; or Preflight was inconclusive: issuance proceeds
)

// IsFailure reports whether something went wrong: whether the level of the
// event is at least slog.LevelWarn.
func (e Event) IsFailure() bool { return e.Level() >= slog.LevelWarn }

// Level returns the event's severity: slog.LevelInfo, LevelWarn or LevelError.
func (e Event) Level() slog.Level {
	switch e.Kind {
	case RenewalLate:
		if e.NotAfter.Sub(e.Time) <= loudLeft {
			return slog.LevelError
		}
		return slog.LevelWarn
	case OperatorActionFailed:
		return slog.LevelWarn
	case IssuanceFailed, CertificateExpired, CAUnavailable, AccountUnavailable, CallbackPanicked:
		return slog.LevelError
	case ClockOff, BackoffRestored, ChallengeFailed, PolicyFailed, CacheReadFailed,
		CacheEntryRejected, CacheWriteFailed, AccountContactFailed, EventsDropped, AllowlistRejected, HostUnreachable, WaitingForDNS,
		ConfigurationWarning, CertificateUntrusted, OrdersRationed, DeliveryFailed, MemberFailed, CertificateWithdrawn,
		OwnCertificateRejected, OwnCertificateExpiring:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// loudLeft is how close to expiry failing renewals become errors.
const loudLeft = 7 * 24 * time.Hour
