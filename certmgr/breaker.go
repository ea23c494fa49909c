package certmgr

import (
	"fmt"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/account"
	"github.com/nostall/nostall/internal/auditqueue"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

// breaker is a circuit breaker for a CA that fails as a whole, so that not
// every host backs off for itself. When its wait is over it lets one issuance
// through as a probe, whose outcome decides for all.
type breaker struct {
	ca    string
	audit *auditqueue.Queue
	now   func() time.Time

	mu       sync.Mutex
	failures int       // consecutive; 0 means closed: the CA is used
	wait     pace.Wait // current, after a call of waits
	cause    error
	probing  bool
	recent   map[string]time.Time // last failure of the CA by registered domain
}

const (
	breakerDomains = 3           // failures for this many registered domains ...
	breakerWindow  = time.Minute // ... within this time are blamed on the CA
)

func newBreaker(ca string, a *auditqueue.Queue, now func() time.Time) *breaker {
	return &breaker{ca: ca, audit: a, now: now, recent: make(map[string]time.Time)}
}

// waits reports whether the next probe is not due yet. b.mu is held.
func (b *breaker) waits() bool {
	now := b.now()
	b.wait = b.wait.At(now)
	return !b.wait.IsOver(now)
}

// allow returns an error while the CA backs off or is being probed. If probe is
// true, the caller is the probe and must call done.
func (b *breaker) allow(host string) (probe bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 {
		return false, nil
	}
	if b.waits() || b.probing {
		return false, b.refusal(host)
	}
	b.probing = true
	return true, nil
}

// check is allow without taking the probe.
func (b *breaker) check(host string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 || !b.waits() && !b.probing {
		return nil
	}
	return b.refusal(host)
}

func (b *breaker) refusal(host string) error {
	if account.IsUnavailable(b.cause) {
		text := fmt.Sprintf("no certificate can be issued without an account (failure %d in a row), next attempt %s", b.failures, text.Stamp(b.wait.Until))
		return &caRefusal{refusal{kind: ErrNoAccount, host: host, text: text, cause: b.cause}, b.wait.Until}
	}
	text := fmt.Sprintf("%s is not used (failure %d in a row), next attempt %s", b.ca, b.failures, text.Stamp(b.wait.Until))
	return &caRefusal{refusal{kind: ErrCAUnavailable, host: host, text: text, cause: b.cause}, b.wait.Until}
}

// caRefusal also matches ErrBackoff: nothing is tried before retryAt.
type caRefusal struct {
	refusal
	retryAt time.Time
}

func (r *caRefusal) Unwrap() []error { return append(r.refusal.Unwrap(), ErrBackoff) }

// done records the end of an attempt. retryAfter is the wait that the CA asked
// for, or zero. It returns true if the failure is the CA's as a whole and must
// not count against the host.
func (b *breaker) done(host string, probe bool, what trouble, cause error, retryAfter time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	now := b.now()
	switch {
	case cause == nil, probe && (what == troubleHost || what == troubleLimit):
		b.closeLocked(host)
		return false
	case what == troubleNone, what == troubleHost:
		return false
	case what == troubleCA, what == troubleLocal:
		b.openLocked(host, probe, cause, max(pace.Jitter(pace.CABackoff(b.failures+1)), retryAfter), now)
		return true
	}
	// A failed probe counts against its host too, so that another one is next.
	if many := b.failedFor(hosts.RegisteredDomain(host), now); many || probe {
		b.openLocked(host, probe, cause, pace.Jitter(pace.CABackoff(b.failures+1)), now)
		return !probe
	}
	return false
}

func (b *breaker) openLocked(host string, probe bool, cause error, wait time.Duration, now time.Time) {
	if b.failures > 0 && !probe && b.waits() {
		return // it was in flight when the breaker opened
	}
	b.failures++
	b.cause = cause
	b.wait = pace.Wait{From: now, Until: now.Add(wait)}
	kind := audit.CAUnavailable
	if account.IsUnavailable(cause) {
		kind = audit.AccountUnavailable
	}
	b.audit.Emit(audit.Event{
		Kind:    kind,
		CA:      b.ca,
		Host:    host,
		Count:   b.failures,
		RetryAt: b.wait.Until,
		Err:     cause,
	})
}

func (b *breaker) closeLocked(host string) {
	if b.failures == 0 {
		return
	}
	kind := audit.CAAvailable
	if account.IsUnavailable(b.cause) {
		kind = audit.AccountAvailable
	}
	b.failures = 0
	b.cause = nil
	clear(b.recent)
	b.audit.Emit(audit.Event{Kind: kind, CA: b.ca, Host: host})
}

// restore opens the breaker with the state saved by another process, or by this
// host before a restart.
func (b *breaker) restore(failures int, until time.Time, cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures > 0 {
		return
	}
	b.failures, b.wait, b.cause = max(1, failures), pace.Wait{From: b.now(), Until: until}, cause
	b.audit.Emit(audit.Event{
		Kind:    audit.CAUnavailable,
		CA:      b.ca,
		Count:   b.failures,
		RetryAt: b.wait.Until,
		Reason:  "recorded in the cache",
		Err:     cause,
	})
}

// failedFor records a failure of the CA for a domain, and reports whether it is
// one of many.
func (b *breaker) failedFor(domain string, now time.Time) bool {
	for d, t := range b.recent {
		if now.Sub(t).Abs() > breakerWindow {
			delete(b.recent, d)
		}
	}
	b.recent[domain] = now
	return len(b.recent) >= breakerDomains
}

// state returns until when the CA backs off (zero if it is in use), the number
// of failures and their cause.
func (b *breaker) state() (until time.Time, failures int, cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 {
		return time.Time{}, 0, nil
	}
	b.waits()
	return b.wait.Until, b.failures, b.cause
}
