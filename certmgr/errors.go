package certmgr

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// ErrCacheMiss is what a Cache returns for a key that it does not hold. It is
// the same value as autocert.ErrCacheMiss, so existing caches work unchanged.
// A wrapped ErrCacheMiss is a miss too.
var ErrCacheMiss = autocert.ErrCacheMiss

// The sentinels that the errors of this package wrap; compare with errors.Is.
var (
	// ErrNoServerName: the ClientHello carries no server name (SNI). Nothing
	// is looked up. Clients that connect by IP address cause it.
	ErrNoServerName = errors.New("certmgr: missing server name")

	// ErrBadServerName: the server name is not a host name that a public CA
	// could certify (a single label, an IP address, invalid characters).
	ErrBadServerName = errors.New("certmgr: invalid server name")

	// ErrHostNotAllowed: neither Manager.Hosts nor Manager.HostPolicy allows
	// the host. An error that HostPolicy returns is passed on as it is and does
	// not wrap this sentinel.
	ErrHostNotAllowed = errors.New("certmgr: host not allowed")

	// ErrInFlight: a certificate for the host is being issued at this moment
	// and the handshake did not wait for it (any longer).
	ErrInFlight = errors.New("certmgr: issuance in flight")

	// ErrBackoff: an issuance for the host failed and the next attempt is not
	// due yet. The error also wraps the *IssuanceError of that failure.
	ErrBackoff = errors.New("certmgr: backing off")

	// ErrCAUnavailable: the CA as a whole failed (directory, account, nonces,
	// an account-wide rate limit, or failures for several domains), so that
	// no host is tried until the CA's own backoff ends.
	ErrCAUnavailable = errors.New("certmgr: CA unavailable")

	// ErrNoAccount: there is no account with the CA, for a reason that is not the
	// CA's: the account key in the Cache is damaged or cannot be read or
	// written, or Manager.Prompt is missing. No host is tried for a while.
	ErrNoAccount = errors.New("certmgr: no account")

	// ErrBusy: a bound on waiting handshakes, callbacks or queued issuances
	// was reached.
	ErrBusy = flight.ErrBusy

	// ErrCache: the Cache could not be read (which is not a miss). Nothing is
	// ordered while that lasts.
	ErrCache = errors.New("certmgr: cache failed")

	// ErrPolicy: HostPolicy gave no answer: it ran out of time or panicked, or it
	// says so itself by an error that wraps this one.
	// That refuses a host without a certificate and takes none out of service.
	ErrPolicy = errors.New("certmgr: HostPolicy failed")

	// ErrUnreachable: a preflight found that the host's name does not lead to this
	// server (Manager.Preflight). The error also wraps a *PreflightError.
	ErrUnreachable = errors.New("certmgr: name does not lead here")

	// ErrClock: the local clock does not fit the dates of a certificate that
	// the CA has just issued.
	ErrClock = errors.New("certmgr: local clock is off")

	// ErrClosed: the Manager was closed. Certificates in memory are still
	// served, nothing new begins.
	ErrClosed = flight.ErrClosed
)

// isAboutHost reports whether a failure at this stage says that the CA cannot find
// the host here, which is the same for both key types.
func isAboutHost(s audit.Stage) bool { return s == audit.StageChallenge || s == audit.StagePreflight }

// IssuanceError says why the last issuance for a host failed. Get it with
// errors.As. It wraps every cause, down to *acme.Error.
type IssuanceError struct {
	Host     string      // normalised (A-label) host name
	KeyType  string      // "ECDSA" or "RSA"
	Stage    audit.Stage // where it failed
	CA       string      // directory URL
	Attempt  string      // identifier of the attempt, as in its audit events; empty if it was made elsewhere
	Attempts int         // failures in a row, this one included
	Time     time.Time   // when it failed
	RetryAt  time.Time   // when the next attempt is due; zero if it is not scheduled
	Err      error       // causes, joined over all challenges that were tried
}

// Error is one line of bounded length that names host, stage, CA and cause.
func (e *IssuanceError) Error() string {
	if e == nil {
		return "<nil>"
	}
	return e.text(text.MaxError)
}

// text is Error within max bytes: what is cut short is the cause, and not when
// the next attempt is due.
func (e *IssuanceError) text(max int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "certmgr: %s: %s failed", e.Host, e.Stage)
	if e.Stage != audit.StagePreflight { // which asks no CA
		b.WriteString(" at " + e.CA)
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&b, " (failure %d in a row)", e.Attempts)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	retry := ""
	if !e.RetryAt.IsZero() {
		retry = "; next attempt " + text.Stamp(e.RetryAt)
	}
	return text.WithTail(b.String(), retry, max)
}

// Unwrap returns the joined causes.
func (e *IssuanceError) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.Err
}

// refusal is the error of a handshake that is turned away: a sentinel, the
// host, what happened and what to do. Its text is made only when it is read.
type refusal struct {
	kind  error
	host  string
	text  string
	since time.Time // start of what is in flight, or zero
	cause error     // may be nil
}

func (r *refusal) Error() string {
	var b strings.Builder
	b.WriteString(r.kind.Error())
	if r.host != "" {
		b.WriteString(": " + r.host)
	}
	if r.text != "" {
		b.WriteString(": " + r.text)
	}
	if !r.since.IsZero() {
		b.WriteString(" since " + text.Stamp(r.since))
	}
	if r.cause == nil {
		return text.OneLine(b.String(), text.MaxError)
	}
	// An operator's reason for a change of the list can be long, and leaves room.
	head := text.OneLine(b.String(), text.MaxError/2) + ": "
	if cause, ok := r.cause.(*IssuanceError); ok && cause != nil {
		return head + cause.text(text.MaxError-len(head))
	}
	return head + text.OneLine(text.Of(r.cause), text.MaxError-len(head))
}

func (r *refusal) Unwrap() []error {
	if r.cause == nil {
		return []error{r.kind}
	}
	return []error{r.kind, r.cause}
}
