package certmgr

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/account"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/auditqueue"
	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

// breaker is a circuit breaker for a CA that fails as a whole, so that not
// every host finds out for itself. It is in one of these states:
//
//   - closed: the CA is used. Its failures, of several hosts or of what all hosts
//     need, open the breaker.
//   - open: nothing is asked of the CA before the end of a wait. Then one caller
//     of allow probes it, with a request that costs little (see health.probe). If
//     that fails, the next wait begins.
//   - half open: a probe has passed. One caller of allow may make one order, whose
//     outcome closes the breaker, or opens it again for a longer wait.
//
// It makes no request and starts nothing: somebody has to ask for a certificate,
// or be waiting for one. See prober.
type breaker struct {
	ca      string
	audit   *auditqueue.Queue
	now     func() time.Time
	changed func() // called after each change of state; must not block

	mu     sync.Mutex
	out    outage
	recent capped.Map[string, caFailure] // by host
	worked time.Time                     // when the CA last issued a certificate
}

// outage is an outage of the CA. The zero value means that there is none.
type outage struct {
	since    time.Time // the first failure
	failures int       // consecutive, of orders and probes; 0 means closed
	orders   int       // the orders among them
	wait     pace.Wait // nothing is asked of the CA before its end
	finding            // about the last failure
	trying   bool      // a probe or the one order is under way
	passed   time.Time // when a probe passed, if no order has used that yet
	told     time.Time // the last event
}

// finding is what the error of a failure says. Its methods may be a user's, such
// as those of a RoundTripper's error, so it is asked before a lock is taken.
type finding struct {
	cause      error
	noAccount  bool // account.IsUnavailable
	reason     string
	isRefusal  bool // the CA refused a request
	isLimited  bool // by a rate limit
	retryAfter time.Duration
}

func findingOf(cause error) finding {
	if cause == nil {
		return finding{}
	}
	f := finding{
		cause:      cause,
		noAccount:  account.IsUnavailable(cause),
		isRefusal:  isRefusal(cause),
		isLimited:  acmeclient.IsRateLimited(cause),
		retryAfter: retryAfter(cause),
	}
	if f.noAccount {
		f.reason = account.Reason(cause)
	}
	return f
}

// caFailure is a failure of the CA for one host.
type caFailure struct {
	at     time.Time
	domain string // registered
	own    bool   // not a rate limit
}

const (
	// Failures for this many registered domains, or for this many hosts of fewer
	// domains, within this time are blamed on the CA.
	breakerDomains = 3
	breakerHosts   = 5
	breakerWindow  = time.Minute

	// maxCAFailures is how many failures of the CA for single hosts are
	// remembered. Strangers may cause many for names of one domain.
	maxCAFailures = 1_000

	// passedFor is how long a probe that has passed stands for an order.
	passedFor = time.Minute

	// tellEvery is the shortest time between two events about probes that fail.
	tellEvery = 15 * time.Minute

	// remindEvery is the same for an account that is missing for the same reason
	// as before.
	remindEvery = 24 * time.Hour
)

func newBreaker(ca string, a *auditqueue.Queue, now func() time.Time) *breaker {
	return &breaker{
		ca:      ca,
		audit:   a,
		now:     now,
		changed: func() {},
		recent:  capped.Map[string, caFailure]{Max: maxCAFailures},
	}
}

// age returns how long the outage has lasted.
func (o *outage) age(now time.Time) time.Duration { return now.Sub(o.since) }

// hasPassed reports whether a probe has passed that no order has used yet.
func (o *outage) hasPassed(now time.Time) bool {
	since := now.Sub(o.passed)
	return !o.passed.IsZero() && since >= 0 && since < passedFor
}

// mayTry reports whether a probe or an order may begin.
func (o *outage) mayTry(now time.Time) bool {
	return !o.trying && (o.hasPassed(now) || o.wait.IsOver(now))
}

// look returns the time, and has the wait follow a clock that was set back.
// b.mu is held.
func (b *breaker) look() time.Time {
	now := b.now()
	b.out.wait = b.out.wait.At(now)
	return now
}

// allow returns an error while the CA is left alone or being tried. If one is
// true, the caller may make one order, after a probe if needsProbe says so, and
// must call done, probed with an error, or giveBack.
func (b *breaker) allow(host string) (one bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.look()
	switch {
	case b.out.failures == 0:
		return false, nil
	case !b.out.mayTry(now):
		return false, b.refusal(host)
	}
	b.out.trying = true
	return true, nil
}

// check is allow without the permission. If attended is true, a prober decides
// when the CA is asked, and who is next.
func (b *breaker) check(host string, attended bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.look()
	if b.out.failures == 0 || b.out.mayTry(now) && (!attended || b.out.hasPassed(now)) {
		return nil
	}
	return b.refusal(host)
}

// needsProbe reports whether a probe must precede the order that allow permits.
// There is none if the CA is not why there is no account.
func (b *breaker) needsProbe() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.out.hasPassed(b.now()) && !b.out.noAccount
}

// giveBack returns the permission of allow unused.
func (b *breaker) giveBack() {
	defer b.changed()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out.trying = false
}

// passOn returns the permission of allow after a probe that has passed, for
// whoever makes the order.
func (b *breaker) passOn() {
	defer b.changed()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out.trying = false
	if now := b.now(); !b.out.hasPassed(now) {
		b.out.passed = now
	}
}

// probed records a probe that took some time and failed. It returns what the
// host is refused with.
func (b *breaker) probed(host string, took time.Duration, cause error) error {
	found := findingOf(cause)
	defer b.changed()
	b.mu.Lock()
	defer b.mu.Unlock()
	now, o := b.now(), &b.out
	o.trying = false
	if o.failures == 0 {
		return nil // an operator's order has succeeded meanwhile
	}
	o.failures++
	o.finding, o.passed = found, time.Time{}
	wait := pace.ProbeWait(o.age(now))
	if found.isLimited {
		wait = max(wait, pace.RefusalWait(1))
	}
	o.wait = pace.Wait{From: now, Until: pace.Later(pace.Next(now, took, wait), now.Add(found.retryAfter))}
	if since := now.Sub(o.told); since < 0 || since >= tellEvery {
		b.tell("", "")
	}
	return b.refusal(host)
}

func (b *breaker) refusal(host string) error {
	o := &b.out
	next := "next attempt " + text.Stamp(o.wait.Until)
	if o.trying || o.mayTry(b.now()) {
		next = "it is being tried again"
	}
	if o.noAccount {
		text := fmt.Sprintf("no certificate can be issued without an account (failure %d in a row), %s", o.failures, next)
		return &caRefusal{refusal{kind: ErrNoAccount, host: host, text: text, cause: o.cause}, o.wait.Until}
	}
	text := fmt.Sprintf("%s is not used (failure %d in a row), %s", b.ca, o.failures, next)
	return &caRefusal{refusal{kind: ErrCAUnavailable, host: host, text: text, cause: o.cause}, o.wait.Until}
}

// caRefusal also matches ErrBackoff: nothing is tried before retryAt.
type caRefusal struct {
	refusal
	retryAt time.Time
}

func (r *caRefusal) Unwrap() []error { return append(r.refusal.Unwrap(), ErrBackoff) }

// evidence is what an attempt says about the CA.
type evidence struct {
	host  string
	one   bool // it is the one order that allow permitted
	what  trouble
	cause error
	took  time.Duration
}

// done records the end of an attempt. whole says that the failure is the CA's as
// a whole and must not count against the host, back that the CA works again.
func (b *breaker) done(v evidence) (whole, back bool) {
	found := findingOf(v.cause)
	defer b.changed()
	b.mu.Lock()
	defer b.mu.Unlock()
	if v.one {
		b.out.trying = false
	}
	if v.cause == nil {
		b.worked = b.now()
	}
	switch {
	case v.cause == nil, v.one && (v.what == troubleHost || v.what == troubleLimit):
		return false, b.closeLocked(v.host)
	case v.what == troubleNone, v.what == troubleHost:
		return false, false // after a probe that has passed, the next order may follow
	case v.one, v.what == troubleCA, v.what == troubleLocal, b.isOneOfMany(v):
		b.openLocked(v, found)
		return true, false
	}
	return false, false
}

func (b *breaker) openLocked(v evidence, found finding) {
	now, o := b.look(), &b.out
	if o.failures > 0 && !v.one && (o.trying || !o.wait.IsOver(now)) {
		return // it was in flight when the breaker opened
	}
	if o.failures == 0 {
		o.since = now
	}
	// What only an operator can end is not repeated as often as it is looked at.
	again := found.noAccount && o.noAccount && found.reason == o.reason
	o.failures++
	o.orders++
	o.finding, o.passed = found, time.Time{}
	wait := pace.OutageWait(o.orders, o.age(now))
	if found.isRefusal {
		wait = pace.RefusalWait(o.orders)
	}
	until := pace.Next(now, v.took, wait)
	if v.what != troubleLimit { // else the CA means the host
		until = pace.Later(until, now.Add(found.retryAfter))
	}
	o.wait = pace.Wait{From: now, Until: until}
	if since := now.Sub(o.told); !again || since < 0 || since >= remindEvery {
		b.tell(v.host, "")
	}
}

// isRefusal reports whether the CA refused a request, rather than failed.
func isRefusal(err error) bool {
	for _, p := range text.Problems(err) {
		is4xx := p.StatusCode >= 400 && p.StatusCode <= 499
		if is4xx && (p.StatusCode == http.StatusTooManyRequests || strings.HasPrefix(p.ProblemType, "urn:ietf:params:acme:error:")) {
			return true
		}
	}
	return false
}

// tell emits the event of a failure. b.mu is held.
func (b *breaker) tell(host, reason string) {
	o := &b.out
	o.told = b.now()
	e := audit.Event{
		Kind:    audit.CAUnavailable,
		CA:      b.ca,
		Host:    host,
		Count:   o.failures,
		RetryAt: o.wait.Until,
		Reason:  reason,
		Err:     o.cause,
	}
	if o.noAccount {
		e.Kind = audit.AccountUnavailable
	}
	b.audit.Emit(e)
}

func (b *breaker) closeLocked(host string) (back bool) {
	if b.out.failures == 0 {
		return false
	}
	kind := audit.CAAvailable
	if b.out.noAccount {
		kind = audit.AccountAvailable
	}
	b.out = outage{}
	b.recent = capped.Map[string, caFailure]{Max: maxCAFailures}
	b.audit.Emit(audit.Event{Kind: kind, CA: b.ca, Host: host})
	return true
}

// isOneOfMany records a failure of the CA for a host, and reports whether it is
// one of many.
func (b *breaker) isOneOfMany(v evidence) bool {
	now := b.now()
	b.recent.Put(v.host, caFailure{at: now, domain: hosts.RegisteredDomain(v.host), own: v.what == troubleOwn},
		func(a, b caFailure) bool { return a.at.Before(b.at) })
	own, domains := 0, make(map[string]bool)
	for host, f := range b.recent.All() {
		if now.Sub(f.at).Abs() > breakerWindow {
			b.recent.Delete(host)
			continue
		}
		domains[f.domain] = true
		if f.own {
			own++
		}
	}
	return len(domains) >= breakerDomains || own >= breakerHosts
}

// hasWorkedSince reports whether the CA has issued a certificate since t.
func (b *breaker) hasWorkedSince(t time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.worked.After(t)
}

// state returns a copy of the outage, which is the zero value if there is none.
func (b *breaker) state() outage {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.look()
	return b.out
}
