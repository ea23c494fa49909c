package certmgr

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// issueRequest is what somebody wants issued.
type issueRequest struct {
	sub         subject
	grant       grant
	reason      string
	asker       asker // the visitor whom it began for
	priority    priority
	explanation string // the CA's page about why it wants a renewal
	override    bool   // an operator's: neither backoff nor breaker nor pace hold it back
}

// issuer turns requests into certificates in memory and cache.
type issuer struct {
	*env
	gate      *gate
	health    *health
	memory    *memory
	store     *store
	keeper    keeper
	orders    *orders
	slots     *flight.Slots
	locker    locker
	issuances *issuances                            // counted
	issues    *flight.Flight[subject, *certificate] // in flight, by subject
	open      openHosts
}

// keeper is told what happens to certificates and hosts, by those who issue and
// load them. It must not block.
type keeper interface {
	// issued and loaded schedule the renewal of a certificate in memory.
	issued(cert *certificate)
	loaded(cert *certificate)
	// reached notes that the CA validated a host here.
	reached(host string, g grant)
	// drop takes a host out of service, of memory and of renewal, unless it is on the
	// list. why may be nil.
	drop(host string, why error)
}

// issue is the body of an issuance's flight.
func (is *issuer) issue(ctx context.Context, i *issuance) (*certificate, error) {
	req := i.req
	a := is.orders.newAttempt(i)
	unlock, err := is.lock(ctx, req.sub)
	if err != nil {
		return nil, is.notBegun(ctx, a, req, err)
	}
	release, probe, err := is.admit(ctx, a, req)
	if err != nil {
		unlock()
		return nil, is.notBegun(ctx, a, req, err)
	}
	// The next one for the host begins when this one has left nothing behind
	// and its outcome is known.
	var held atomic.Int32
	held.Store(2)
	let := func() {
		if held.Add(-1) == 0 {
			unlock()
		}
	}
	defer let()
	last := is.health.failures.last(req.sub)
	if cert := is.memory.current(req.sub); cert != nil && cert.usable(is.now()) && mayReplace(last) {
		a.replaces = acmeclient.CertID(cert.leaf)
	}
	failures := 0
	if last != nil {
		failures = last.err.Attempts
	}
	a.types = is.orders.lastWorked.Pick(a.host, is.settings.challengeTypes(), failures)
	a.began = is.now()
	a.audit(req.asker.event(audit.Event{
		Kind:           audit.IssuanceStarted,
		Decision:       audit.Allowed,
		Rule:           req.grant.rule(a.host),
		Stage:          audit.StageOrder,
		Reason:         req.reason,
		ExplanationURL: req.explanation,
	}))
	out := is.orders.attempt(ctx, i, a, let)
	release()
	return is.conclude(ctx, a, req, out, last, probe)
}

// mayReplace reports whether the order after a failure, if there was one, says what
// it replaces. Where an order failed the next one goes without, as that may be what
// the CA could not cope with in a way that shows in no answer; but not where a rate
// limit refused it, from which it would spare the order.
func mayReplace(last *failure) bool {
	return last == nil || last.err.Stage != audit.StageOrder || acmeclient.IsRateLimited(last.err)
}

// conclude draws the consequences of an attempt: for the CA, the host, and
// those who wait.
func (is *issuer) conclude(ctx context.Context, a *attempt, req issueRequest, out outcome, last *failure, probe bool) (*certificate, error) {
	cause, clockOff := out.err, false
	if errors.Is(out.err, ErrClock) {
		cause, clockOff = nil, true // the CA did its part
	}
	what := troubleOf(a.trace, out.stage, a.host, cause)
	gone := is.gate.offList(ctx, a.host)
	if is.tasks.IsClosed() || gone != nil {
		what = troubleNone // it was cut short
	}
	whole := is.health.breaker.done(a.host, probe, what, cause, retryAfter(cause))
	is.health.rememberBreaker()
	is.orders.watchClock()
	if gone != nil {
		return nil, is.canceled(a, out, gone)
	}
	if out.cert != nil {
		is.succeed(a, req, out)
		if gone := is.gate.offList(ctx, a.host); gone != nil {
			is.keeper.drop(a.host, gone) // who removed it may have looked a moment too early
			return nil, gone
		}
	}
	if out.cert != nil && out.err == nil && out.cert.dates().IsAged(is.now()) {
		is.holdBack(a, req, out)
	}
	if out.err != nil {
		return nil, is.fail(a, req, out, last, whole, clockOff)
	}
	return out.cert, nil
}

// holdBack keeps a clock that seems to be ahead from ordering anew as soon as it
// calls the certificate expired.
func (is *issuer) holdBack(a *attempt, req issueRequest, out outcome) {
	now := is.now()
	e := &IssuanceError{
		Host:     a.host,
		KeyType:  a.sub.keyType.String(),
		Stage:    audit.StageFinalize,
		CA:       is.dir,
		Attempt:  a.id,
		Attempts: 1,
		Time:     now,
		RetryAt:  out.cert.dates().AgedUntil(now),
		Err:      clockError(a.host, out.cert, now),
	}
	rec := &failure{
		err:      e,
		machine:  is.health.machine,
		standing: req.grant.standing,
		clockOff: true,
		since:    now,
		lastRead: now,
	}
	is.health.remember(req.sub, rec)
	is.tasks.Go(func(ctx context.Context) { is.health.saveFailure(context.WithoutCancel(ctx), req.sub, rec) })
}

func clockError(host string, cert *certificate, now time.Time) error {
	return &refusal{kind: ErrClock, host: host, text: fmt.Sprintf("it says %s, but the CA has just issued a certificate for %s to %s; "+
		"set the clock, the certificate is kept", text.Stamp(now), text.Stamp(cert.notBefore), text.Stamp(cert.notAfter))}
}

// outcome is what an attempt came to. A certificate comes with its cache entry,
// with ErrClock it comes too.
type outcome struct {
	cert  *certificate
	data  []byte
	acc   *account
	stage audit.Stage // the last one
	order string      // its URL
	err   error
}

// succeed publishes a certificate: memory first, so that handshakes have it
// whatever becomes of the cache.
func (is *issuer) succeed(a *attempt, req issueRequest, out outcome) {
	cert := out.cert
	a.setStage(audit.StageStore)
	known := is.health.failures.forget(req.sub)
	if is.memory.issued(cert, req.grant, is.now()) {
		is.keeper.issued(cert)
	}
	is.keeper.reached(a.host, req.grant)
	if out.err == nil { // else it is told by fail: the certificate cannot be served
		is.issuances.succeeded(time.Since(a.wanted))
		a.audit(audit.Event{
			Kind:     audit.CertificateIssued,
			Stage:    audit.StageStore,
			OrderURL: out.order,
			Serial:   serialOf(cert.leaf),
			NotAfter: cert.notAfter,
			Reason:   req.reason,
			Duration: is.now().Sub(a.began),
		})
	}
	is.store.putCertificate(cert, out.data, func() bool { return is.memory.current(cert.subject) == cert })
	if known && !cert.dates().IsAged(is.now()) { // else holdBack writes another
		is.tasks.Go(func(ctx context.Context) {
			for _, key := range failureCacheKeys(req.sub) {
				is.store.delete(context.WithoutCancel(ctx), key)
			}
		})
	}
}

// fail makes the error of a failed attempt and remembers it: against the host,
// unless the CA failed as a whole.
func (is *issuer) fail(a *attempt, req issueRequest, out outcome, last *failure, whole, clockOff bool) error {
	cause := out.err
	if is.tasks.IsClosed() {
		return is.closed(a, out)
	}
	now := is.now()
	e := &IssuanceError{
		Host:     a.host,
		KeyType:  a.sub.keyType.String(),
		Stage:    out.stage,
		CA:       is.dir,
		Attempt:  a.id,
		Attempts: 1,
		Time:     now,
		Err:      cause,
	}
	is.issuances.failedAt(e.Stage)
	failed := audit.Event{
		Kind:     audit.IssuanceFailed,
		Stage:    e.Stage,
		OrderURL: out.order,
		Reason:   req.reason,
		Duration: now.Sub(a.began),
		Err:      e,
	}
	if c := out.cert; c != nil {
		failed.Serial, failed.NotAfter = serialOf(c.leaf), c.notAfter
	}
	if whole {
		e.RetryAt, _, _ = is.health.breaker.state()
		failed.RetryAt = e.RetryAt
		a.audit(failed)
		return e
	}
	if last != nil {
		e.Attempts += last.err.Attempts
	}
	e.RetryAt = now.Add(is.settings.backoffFor(e.Attempts))
	e.RetryAt = later(e.RetryAt, now.Add(retryAfter(cause)))
	if clockOff {
		// The next one would look the same: wait for the clock, or for most
		// of the lifetime that the certificate really has.
		if cert := is.memory.current(req.sub); cert != nil {
			e.RetryAt = later(e.RetryAt, now.Add(cert.notAfter.Sub(cert.notBefore)/2))
		}
	}
	rec := &failure{
		err:      e,
		machine:  is.health.machine,
		standing: req.grant.standing,
		clockOff: clockOff,
		since:    now,
		lastRead: now,
	}
	if last != nil {
		rec.since = last.since
	}
	if out.acc != nil {
		rec.account = string(out.acc.url)
	}
	is.health.remember(req.sub, rec)
	failed.RetryAt, failed.Count = e.RetryAt, e.Attempts
	a.audit(failed)
	is.tasks.Go(func(ctx context.Context) { is.health.saveFailure(context.WithoutCancel(ctx), req.sub, rec) })
	return e
}

// newAttemptID returns what ties the events of one attempt together.
func newAttemptID() string { return strings.ToLower(rand.Text()[:10]) }
