package certmgr

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// An EventKind names a change of state. The set is closed; the strings are
// stable.
type EventKind string

// The kinds of events.
const (
	// EventLoaded: a certificate was found in the Cache and is served.
	EventLoaded EventKind = "certificate_loaded"
	// EventIssuing: an issuance began. Reason says for whom.
	EventIssuing EventKind = "issuance_started"
	// EventIssued: an issuance succeeded and the certificate is served.
	EventIssued EventKind = "certificate_issued"
	// EventIssueFailed: an issuance failed. Err is an *IssuanceError, RetryAt
	// when the next attempt is due.
	EventIssueFailed EventKind = "issuance_failed"
	// EventBackoffRestored: the Cache has the record of a failure, from before a
	// restart or of another machine, that holds a host back until RetryAt.
	EventBackoffRestored EventKind = "backoff_restored"
	// EventChallengeFailed: the CA did not accept one challenge. Reason says
	// whether the CA's request was seen here.
	EventChallengeFailed EventKind = "challenge_failed"
	// EventExpired: a certificate expired in memory and is not served any more.
	EventExpired EventKind = "certificate_expired"
	// EventRenewalLate: renewals of a certificate fail, and half of the time that
	// was left at the first failure is over, or 7 days are left, or one. Err is
	// the last failure, RetryAt the next attempt. EventExpired follows.
	EventRenewalLate EventKind = "renewal_late"
	// EventRenewalMoved: the CA suggests another time for a renewal than before
	// (RFC 9773), RetryAt is when it will be. One in the past means that the CA
	// is about to revoke the certificate; ExplanationURL may say why.
	EventRenewalMoved EventKind = "renewal_window_moved"
	// EventRevoked: a certificate was revoked by Manager.Revoke, or found to be
	// revoked, and is not served any more. Reason says which and why.
	EventRevoked EventKind = "certificate_revoked"
	// EventClockOff: the local clock does not fit the dates of a new certificate.
	EventClockOff EventKind = "clock_off"
	// EventHostDropped: a host is no longer allowed; it is neither served nor renewed.
	EventHostDropped EventKind = "host_dropped"
	// EventHostRestored: HostPolicy allows a host again that it had refused.
	EventHostRestored EventKind = "host_restored"
	// EventPolicyFailed: HostPolicy could not decide about a host that stays in service.
	EventPolicyFailed EventKind = "policy_failed"
	// EventCacheReadFailed: the Cache could not be read. Nothing is ordered for that reason.
	EventCacheReadFailed EventKind = "cache_read_failed"
	// EventCacheEntryRejected: an entry of the Cache is damaged, expired or does not fit.
	EventCacheEntryRejected EventKind = "cache_entry_rejected"
	// EventCacheWriteFailed: the Cache could not be written. A certificate is
	// served from memory and the write is tried again.
	EventCacheWriteFailed EventKind = "cache_write_failed"
	// EventCacheWritten: a write that had failed succeeded.
	EventCacheWritten EventKind = "cache_write_recovered"
	// EventAccount: an account was registered with the CA, or found there.
	EventAccount EventKind = "account_ready"
	// EventCADown: the CA as a whole is not tried before RetryAt.
	EventCADown EventKind = "ca_unavailable"
	// EventCAUp: the CA works again.
	EventCAUp EventKind = "ca_available"
	// EventNoAccount: there is no account with the CA, for a reason that is not the
	// CA's, so that no host is tried before RetryAt.
	EventNoAccount EventKind = "account_unavailable"
	// EventAccountBack: that is over.
	EventAccountBack EventKind = "account_available"
	// EventAccountKey: the account has another key (Manager.RollAccountKey).
	// Reason is its URL and the key's thumbprint.
	EventAccountKey EventKind = "account_key_changed"
	// EventContact: the account's contact at the CA was changed to Manager.Email.
	EventContact EventKind = "account_contact_changed"
	// EventContactFailed: it could not be changed. Nothing depends on it.
	EventContactFailed EventKind = "account_contact_failed"
	// EventRefused: handshakes were refused; Count says how many since the last
	// such event, Host and Err are one example, if there is one. At most one a
	// minute.
	EventRefused EventKind = "handshakes_refused"
	// EventsDropped: Count events were lost because the hook is too slow.
	EventsDropped EventKind = "events_dropped"
	// EventStart: Start has brought Count of Total hosts into memory. The last one
	// has Count equal to Total; while there are failures it does not come.
	EventStart EventKind = "start_progress"
	// EventClosed: the Manager was closed.
	EventClosed EventKind = "manager_closed"
)

// An Event is one change of state. Fields that do not apply are zero.
type Event struct {
	Seq            uint64    // counts all events of a Manager, from 1; a gap is a loss
	Time           time.Time // when it happened, by the local clock
	Kind           EventKind
	Host           string        // normalised host name
	KeyType        string        // "ECDSA" or "RSA"
	Attempt        string        // identifier of the issuance attempt that it belongs to
	Stage          Stage         // of the issuance
	CA             string        // directory URL
	Reason         string        // why, in words
	Duration       time.Duration // how long it took
	NotAfter       time.Time     // the certificate's end
	RetryAt        time.Time     // the next attempt
	Count          int           // see the kind
	Total          int           // see the kind
	ExplanationURL string        // the CA's page about why it wants a certificate renewed (RFC 9773, section 4.2)
	Err            error         // the cause; never holds a key
}

// Failure reports whether the event tells of something that went wrong.
func (e Event) Failure() bool { return e.level() >= slog.LevelWarn }

func (e Event) level() slog.Level {
	switch e.Kind {
	case EventRenewalLate:
		if e.NotAfter.Sub(e.Time) <= loudLeft {
			return slog.LevelError
		}
		return slog.LevelWarn
	case EventIssueFailed, EventExpired, EventCADown, EventNoAccount:
		return slog.LevelError
	case EventClockOff, EventBackoffRestored, EventChallengeFailed, EventPolicyFailed, EventCacheReadFailed,
		EventCacheEntryRejected, EventCacheWriteFailed, EventContactFailed, EventsDropped:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// loudLeft is what is left of a certificate when failing renewals become errors.
const loudLeft = 7 * 24 * time.Hour

// String returns the event in one line.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d %s %s", e.Seq, e.Time.UTC().Format(time.RFC3339Nano), e.Kind)
	for _, a := range e.attrs() {
		if a.Value.Kind() == slog.KindString {
			fmt.Fprintf(&b, " %s=%q", a.Key, a.Value.String())
			continue
		}
		fmt.Fprintf(&b, " %s=%s", a.Key, a.Value)
	}
	return b.String()
}

// LogValue implements slog.LogValuer.
func (e Event) LogValue() slog.Value {
	return slog.GroupValue(append([]slog.Attr{slog.String("kind", string(e.Kind))}, e.attrs()...)...)
}

// attrs returns what is set, in a fixed order.
func (e Event) attrs() []slog.Attr {
	var attrs []slog.Attr
	text := func(key, val string) {
		if val != "" {
			attrs = append(attrs, slog.String(key, oneLine(val, maxErrorText)))
		}
	}
	when := func(key string, t time.Time) {
		if !t.IsZero() {
			attrs = append(attrs, slog.String(key, stamp(t)))
		}
	}
	text("host", e.Host)
	text("key_type", e.KeyType)
	text("attempt", e.Attempt)
	text("stage", string(e.Stage))
	text("ca", e.CA)
	text("reason", e.Reason)
	if e.Duration != 0 {
		attrs = append(attrs, slog.Duration("duration", e.Duration))
	}
	when("not_after", e.NotAfter)
	when("retry_at", e.RetryAt)
	if e.Count != 0 && e.Total == 0 {
		attrs = append(attrs, slog.Int("count", e.Count))
	}
	if e.Total != 0 {
		attrs = append(attrs, slog.Int("count", e.Count), slog.Int("total", e.Total))
	}
	text("explanation_url", e.ExplanationURL)
	if e.Err != nil {
		text("error", e.Err.Error())
	}
	return attrs
}

// AuditLog returns an audit hook that writes each event to l, or to
// slog.Default() as it is at that time if l is nil: failures as warnings or
// errors, everything else as information.
func AuditLog(l *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, e Event) {
		l := l
		if l == nil {
			l = slog.Default()
		}
		attrs := append([]slog.Attr{slog.Uint64("seq", e.Seq)}, e.attrs()...)
		l.LogAttrs(ctx, e.level(), "certmgr: "+strings.ReplaceAll(string(e.Kind), "_", " "), attrs...)
	}
}
