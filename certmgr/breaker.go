package certmgr

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"
)

// breaker backs off once for a CA that fails as a whole, in the place of every
// host for itself. When its time is over one issuance is let through as a
// probe, and its outcome decides for all.
type breaker struct {
	ca    string
	audit *auditor
	now   func() time.Time

	mu       sync.Mutex
	failures int // in a row; 0 means closed: the CA is used
	until    time.Time
	cause    error
	probing  bool
	recent   map[string]time.Time // by registered domain: when the CA failed for it
}

const (
	breakerDomains = 3           // that many registered domains ...
	breakerWindow  = time.Minute // ... within this time are the CA's own failure
)

func newBreaker(ca string, a *auditor, now func() time.Time) *breaker {
	return &breaker{ca: ca, audit: a, now: now, recent: make(map[string]time.Time)}
}

// allow returns an error while the CA is backed off or probed. If probe is
// true, the caller is the probe and must call done.
func (b *breaker) allow(host string) (probe bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 {
		return false, nil
	}
	if b.probing || b.now().Before(b.until) {
		return false, b.refusal(host)
	}
	b.probing = true
	return true, nil
}

// check is allow without taking the probe.
func (b *breaker) check(host string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 || !b.probing && !b.now().Before(b.until) {
		return nil
	}
	return b.refusal(host)
}

func (b *breaker) refusal(host string) error {
	text := fmt.Sprintf("%s failed %d times in a row, next attempt %s", b.ca, b.failures, stamp(b.until))
	return &caRefusal{refusal{kind: ErrCAUnavailable, host: host, text: text, cause: b.cause}, b.until}
}

// caRefusal also matches ErrBackoff: nothing is tried before retryAt.
type caRefusal struct {
	refusal
	retryAt time.Time
}

func (r *caRefusal) Unwrap() []error { return append(r.refusal.Unwrap(), ErrBackoff) }

// trouble is what an attempt's failure says about the CA.
type trouble uint8

const (
	troubleNone trouble = iota // nothing: the CA was not reached, and is not why
	troubleHost                // it works, the failure is the host's own
	troubleOwn                 // the CA failed for this host: 5xx, 429, no answer
	troubleCA                  // the CA is out of service for all
)

// done reports an attempt's end. retryAfter is what the CA asked
// for, or zero. It returns whether the failure is the CA's as a whole, and not
// to be counted against the host.
func (b *breaker) done(host string, probe bool, what trouble, cause error, retryAfter time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	if cause != nil && what == troubleNone {
		return false
	}
	if cause == nil || what == troubleHost {
		if b.failures > 0 && (cause == nil || probe) {
			b.failures = 0
			b.cause = nil
			clear(b.recent)
			b.audit.emit(Event{Kind: EventCAUp, CA: b.ca, Host: host})
		}
		return false
	}
	now := b.now()
	whole := what == troubleCA
	if !whole {
		whole = b.failedFor(registeredDomain(host), now) || probe
	}
	if !whole {
		return false
	}
	if b.failures > 0 && !probe && now.Before(b.until) {
		return true // others that were under way when it opened
	}
	b.failures++
	b.cause = cause
	b.until = now.Add(max(jitter(caBackoff(b.failures)), min(retryAfter, maxRetryAfter)))
	b.audit.emit(Event{Kind: EventCADown, CA: b.ca, Host: host, Count: b.failures, RetryAt: b.until, Err: cause})
	return true
}

// failedFor notes a failure of the CA for a domain, and reports whether it is
// one of many.
func (b *breaker) failedFor(domain string, now time.Time) bool {
	for d, t := range b.recent {
		if now.Sub(t) > breakerWindow {
			delete(b.recent, d)
		}
	}
	b.recent[domain] = now
	return len(b.recent) >= breakerDomains
}

// state returns until when the CA is backed off (zero: it is used) and why.
func (b *breaker) state() (until time.Time, failures int, cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 {
		return time.Time{}, 0, nil
	}
	return b.until, b.failures, b.cause
}

// registeredDomain returns what CAs count by: the public suffix and one label.
func registeredDomain(host string) string {
	d, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return host
	}
	return d
}
