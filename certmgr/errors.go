package certmgr

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/account"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// ErrCacheMiss is the error of a Cache for a key without an entry. It is the
// same value as autocert.ErrCacheMiss, so existing caches work unchanged. A
// wrapped ErrCacheMiss is a miss too.
var ErrCacheMiss = autocert.ErrCacheMiss

// Errors of this package wrap these sentinels; compare with errors.Is.
var (
	// ErrNoServerName: the ClientHello has no server name (SNI), usually
	// because the client connects by IP address, and there is no certificate for
	// such a client: the address that it connected to is not listed, and
	// Manager.DefaultHost is not set, or invalid.
	ErrNoServerName = errors.New("certmgr: missing server name")

	// ErrBadServerName: the server name is not a host name that a public CA
	// could certify (a single label, an IP address to which the client did not
	// connect, invalid characters; if only
	// a wildcard or a policy allows it, also reserved and recursive names, such
	// as www.www.www.example.com).
	ErrBadServerName = errors.New("certmgr: invalid server name")

	// ErrHostNotAllowed: neither Manager.Hosts nor Manager.HostPolicy allows
	// the host. An error from HostPolicy is returned unchanged and does not
	// wrap this sentinel.
	ErrHostNotAllowed = errors.New("certmgr: host not allowed")

	// ErrInFlight: an issuance for the host is in flight, and the handshake did
	// not wait for it, or no longer.
	ErrInFlight = errors.New("certmgr: issuance in flight")

	// ErrBackoff: an issuance for the host failed and the next attempt is not
	// due yet. The error also wraps the *IssuanceError of that failure. Its stage
	// is "queue" if too many attempts were cut short. There is no *IssuanceError
	// if the host has to wait for Manager.OrderBudget.
	ErrBackoff = errors.New("certmgr: backing off")

	// ErrCAUnavailable: the CA as a whole failed (directory, account, nonces,
	// an account-wide rate limit, or failures for several hosts). While somebody
	// waits for a certificate the CA is probed, at first every 5 s, and after a
	// probe that passes one host is tried, whose success ends the outage.
	ErrCAUnavailable = errors.New("certmgr: CA unavailable")

	// ErrNoAccount: there is no account with the CA, for a reason other than
	// the CA: a field of the Manager is wrong (Email, ExternalAccountBinding,
	// Client, Prompt), the account key in the Cache is damaged or cannot be
	// read or written, the CA has deactivated the account, or it waits for
	// somebody to agree to changed terms of service. The error says which, and
	// what to do. No host is tried for a while.
	ErrNoAccount = account.ErrNoAccount

	// ErrBadSetting: a field of the Manager has a value that cannot work, such
	// as a Profile that the CA does not offer. The error names the field. For a
	// profile it also wraps ErrBackoff, and the CA's *acme.Error if the CA has
	// refused an order because of it: no host is tried for a while.
	ErrBadSetting = errors.New("certmgr: invalid setting")

	// ErrBusy: a limit on waiting handshakes, callbacks or queued issuances was
	// reached.
	ErrBusy = flight.ErrBusy

	// ErrCache: the Cache could not be read (which is not a miss). Until it can
	// be, no order is placed.
	ErrCache = errors.New("certmgr: cache failed")

	// ErrPolicy: HostPolicy did not decide: it timed out or panicked, or
	// returned an error that wraps this one. Hosts without a certificate are
	// then refused, and certificates in memory stay in service.
	ErrPolicy = errors.New("certmgr: HostPolicy failed")

	// ErrUnreachable: a preflight found that the host's name does not lead to
	// this server (Manager.Preflight). The error also wraps a *preflight.Error.
	ErrUnreachable = preflight.ErrUnreachable

	// ErrKeySource: Manager.KeySource did not return a private key that can be
	// used: it failed, timed out or panicked, or its key does not fit. The error
	// also wraps its own. No order is placed because of it.
	ErrKeySource = errors.New("certmgr: KeySource failed")

	// ErrClock: the local clock does not fit the dates of a certificate that
	// the CA has just issued.
	ErrClock = errors.New("certmgr: local clock is off")

	// ErrOwnCertificate: the host has a certificate of the operator's own
	// (Manager.Certificates), so nothing is issued for it.
	ErrOwnCertificate = errors.New("certmgr: the host has a certificate of your own")

	// ErrClosed: the Manager was closed. It still serves certificates in
	// memory, but begins nothing new.
	ErrClosed = flight.ErrClosed
)

// isAboutHost reports whether a failure at this stage means that the CA cannot
// reach the host here, which affects both key types.
func isAboutHost(s audit.Stage) bool { return s == audit.StageChallenge || s == audit.StagePreflight }

// IssuanceError says why the last issuance for a host failed. Get it with
// errors.As. It wraps all causes, down to *acme.Error.
type IssuanceError struct {
	Host     string      // normalised (A-label) host name
	KeyType  string      // "ECDSA" or "RSA"
	Stage    audit.Stage // the stage that failed
	CA       string      // directory URL
	Attempt  string      // identifier of the attempt, as in its audit events; empty if another process made it
	Attempts int         // consecutive failures, including this one
	Time     time.Time   // when it failed
	RetryAt  time.Time   // when the next attempt is due; zero if it is not scheduled
	URL      string      // of the CA's resource that failed, without its query; empty if none did
	Err      error       // causes, joined over all challenges tried

	State      HostState // of the host, without a certificate: StateBackoff, StatePaused, StateRejected or StateWaitingForDNS; empty if the CA failed as a whole
	UnpauseURL string    // with StatePaused: the CA's page that ends it, if the CA has named one

	entry string // the key of the failure's record in the Cache; empty means that of its host
}

// Error returns one line that names host, stage, CA and cause, what to do and
// when the next attempt is due. It has at most 1 KB, and in addition links of
// the CA, whole, up to 2 KB. The error of a handshake has a short form of it.
func (e *IssuanceError) Error() string {
	if e == nil {
		return "<nil>"
	}
	return e.text(text.MaxError)
}

// text is Error within limit bytes besides links. If it is too long, the cause
// is cut, not what follows it.
func (e *IssuanceError) text(limit int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "certmgr: %s: %s failed", e.Host, e.Stage)
	if e.Stage != audit.StagePreflight && e.Stage != audit.StageKey { // they contact no CA
		b.WriteString(" at " + e.CA)
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&b, " (failure %d in a row)", e.Attempts)
	}
	b.WriteString(": " + text.Cause(e.Err))
	tail := ""
	if hint := e.Hint(); hint != "" {
		tail = "; " + text.OneLine(hint, maxHint)
	}
	tail += nextAttempt(e.RetryAt)
	if len(tail) >= limit {
		return text.OneLine(tail, limit)
	}
	return text.Line(b.String(), limit-len(tail)) + tail
}

// maxHint is the longest hint in the text of an error, in bytes.
const maxHint = 384

// Hint says how to have a failed issuance tried at once, with and without code:
// which entry of the Cache keeps it waiting over restarts. It is empty if the
// next attempt is not scheduled.
func (e *IssuanceError) Hint() string {
	if e == nil || e.RetryAt.IsZero() {
		return ""
	}
	key := breakerCacheKey
	switch {
	case e.State == StateWaitingForDNS:
		return "it is probed until it leads here; to have that done at once, use the admin handler (retry) or call Manager.Obtain"
	case errors.Is(e.Err, ErrBadSetting):
		return "correct the field that it names and restart; Manager.Obtain tries at once"
	case e.State == "" && account.IsUnavailable(e.Err): // a restart earns an attempt
		return "to try again at once, use the admin handler (retry) or call Manager.Obtain, or restart"
	case e.State != "" || errors.Is(e.Err, ErrClock):
		alg := bundle.ECDSA
		if e.KeyType == bundle.RSA.String() {
			alg = bundle.RSA
		}
		key = failureKeyOf(newSubject(alg, e.CA, e.Host), e.Stage).cacheKey()
		if _, cut := e.Err.(*tooManyAttempts); cut {
			key = attemptsCacheKey(e.Host)
		}
		key = cmp.Or(e.entry, key)
	}
	return fmt.Sprintf("to try again at once, use the admin handler (retry) or call Manager.Obtain, or delete the Cache's entry %q, if there is one, and restart", key)
}

// nextAttempt is the end of an error's text.
func nextAttempt(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return "; next attempt " + text.Stamp(at)
}

// Unwrap returns the joined causes.
func (e *IssuanceError) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.Err
}

// refusal is the error of a refused handshake or operation: a sentinel, the
// host, what happened and what to do. Its text is built only when it is read.
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
		return text.Line(b.String(), text.MaxError)
	}
	// A reason for a change of the list can be long, but leaves room for the
	// cause.
	head := text.OneLine(b.String(), text.MaxError/2) + ": "
	room := text.MaxError - len(head)
	if cause, ok := r.cause.(*IssuanceError); ok && cause != nil {
		return head + strings.TrimPrefix(cause.text(room), "certmgr: ")
	}
	return head + text.Line(text.Cause(r.cause), room)
}

func (r *refusal) Unwrap() []error {
	if r.cause == nil {
		return []error{r.kind}
	}
	return []error{r.kind, r.cause}
}
