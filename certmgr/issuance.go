package certmgr

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/acmeclient"
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
	settings   *settings
	now        func() time.Time
	tasks      *tasks
	audit      *auditor
	store      *store
	memory     *memory
	failures   *failures
	issuances  *issuances
	visits     *visits
	breaker    *breaker
	slots      *slots
	accounts   *accounts
	calls      *callouts // attempts, which run the user's code too
	challenges *challenges
	preflight  *preflight
	ca         *acmeclient.CA
	dir        string
	machine    string
	locker     locker
	schedule   func(*certificate)
	drop       func(host string, why error) // takes a host out of service
	lastWorked typeMemory

	unfinished unfinishedOrders
	clockOff   atomic.Bool // said by an event

	breakerRead  atomic.Bool  // the cache's record of the breaker
	breakerSaved atomic.Int64 // until when that says; 0: there is none
}

// issue is the body of an issuance's flight.
func (is *issuer) issue(ctx context.Context, c *call[*certificate], req issueRequest) (*certificate, error) {
	a := &attempt{
		id: newAttemptID(), host: req.sub.host(), sub: req.sub, extra: is.settings.extraExtensions,
		kept:    func() crypto.Signer { return is.keptKey(req.sub) },
		solvers: is.challenges.solver, setStage: c.setStage, now: is.now, trace: new(acmeclient.Trace), wanted: c.since,
	}
	a.audit = func(e Event) {
		e.Host, e.KeyType, e.Attempt, e.CA = a.host, a.sub.keyType.String(), a.id, is.dir
		is.audit.emit(e)
	}
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
	last := is.failures.last(req.sub)
	if cert := is.memory.current(req.sub); cert != nil && cert.usable(is.now()) && mayReplace(last) {
		a.replaces = acmeclient.CertID(cert.leaf)
	}
	a.types = is.lastWorked.pick(a.host, last, is.settings.http01.Load())
	if is.settings.preflight != PreflightOff {
		a.preflight = is.preflight
	}
	a.began = is.now()
	a.audit(req.asker.event(Event{Kind: EventIssuing, Decision: Allowed, Rule: req.grant.rule(a.host), Stage: StageOrder,
		Reason: req.reason, ExplanationURL: req.explanation}))
	out := is.attempt(ctx, c, a, let)
	release()
	return is.conclude(ctx, a, req, out, last, probe)
}

// mayReplace reports whether the order after a failure, if there was one, says what
// it replaces. Where an order failed the next one goes without, as that may be what
// the CA could not cope with in a way that shows in no answer; but not where a rate
// limit refused it, from which it would spare the order.
func mayReplace(last *failure) bool {
	return last == nil || last.err.Stage != StageOrder || acmeclient.IsRateLimited(last.err)
}

// conclude draws the consequences of an attempt: for the CA, the host, and
// those who wait.
func (is *issuer) conclude(ctx context.Context, a *attempt, req issueRequest, out outcome, last *failure, probe bool) (*certificate, error) {
	cause, clockOff := out.err, false
	if errors.Is(out.err, ErrClock) {
		cause, clockOff = nil, true // the CA did its part
	}
	what := troubleOf(a.trace, out.stage, a.host, cause)
	gone := is.offList(ctx, a.host)
	if is.tasks.isClosed() || gone != nil {
		what = troubleNone // it was cut short
	}
	whole := is.breaker.done(a.host, probe, what, cause, retryAfter(cause))
	is.rememberBreaker()
	is.watchClock()
	if gone != nil {
		return nil, is.canceled(a, out, gone)
	}
	if out.cert != nil {
		is.succeed(a, req, out)
		if gone := is.offList(ctx, a.host); gone != nil {
			is.drop(a.host, gone) // who removed it may have looked a moment too early
			return nil, gone
		}
	}
	if out.cert != nil && out.err == nil && isAged(out.cert, is.now()) {
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
	e := &IssuanceError{Host: a.host, KeyType: a.sub.keyType.String(), Stage: StageFinalize, CA: is.dir, Attempt: a.id, Attempts: 1,
		Time: now, RetryAt: agedUntil(out.cert, now), Err: clockError(a.host, out.cert, now)}
	rec := &failure{err: e, machine: is.machine, standing: req.grant.standing, clockOff: true, since: now, lastRead: now}
	is.remember(req.sub, rec)
	is.tasks.Go(func(ctx context.Context) { is.saveFailure(context.WithoutCancel(ctx), req.sub, rec) })
}

func clockError(host string, cert *certificate, now time.Time) error {
	return &refusal{kind: ErrClock, host: host, text: fmt.Sprintf("it says %s, but the CA has just issued a certificate for %s to %s; "+
		"set the clock, the certificate is kept", stamp(now), stamp(cert.notBefore), stamp(cert.notAfter))}
}

// outcome is what an attempt came to. A certificate comes with its cache entry,
// with ErrClock it comes too.
type outcome struct {
	cert  *certificate
	data  []byte
	acc   *account
	stage Stage  // the last one
	order string // its URL
	err   error
}

// attempt holds the conversation with the CA, within attemptTimeout. The
// user's code takes part in it (Client.Key, RetryBackoff, HTTPClient), so that
// it is a callback that may panic or ignore its context. let is called when
// nothing of the attempt is left, which can be later.
func (is *issuer) attempt(ctx context.Context, c *issueCall, a *attempt, let func()) outcome {
	ctx, cancel := context.WithTimeoutCause(ctx, attemptTimeout, fmt.Errorf("no certificate within %v: %w", attemptTimeout, context.DeadlineExceeded))
	defer cancel()
	ctx = acmeclient.WithTrace(ctx, a.trace)
	out, err := callOut(ctx, is.calls, c.key, func(ctx context.Context) (outcome, error) {
		defer is.cleanUp(a, let)
		out := is.converse(ctx, a)
		out.stage, out.order = a.stage, a.order
		return out, nil
	})
	if errors.Is(err, ErrBusy) {
		let() // it did not begin
	}
	if err != nil { // a's fields may still be in use, but for those that are safe
		out = outcome{stage: c.getStage(), err: err}
	}
	if out.err != nil && ctx.Err() != nil {
		out.err = fmt.Errorf("%w%s: %w", context.Cause(ctx), lastURL(a.trace), out.err)
	}
	return out
}

func lastURL(t *acmeclient.Trace) string {
	if u := t.FailedURL(); u != "" {
		return ", last request " + u
	}
	return ""
}

// converse has the certificate issued. If the account's key was changed while it
// was at it, it begins anew with the new one.
func (is *issuer) converse(ctx context.Context, a *attempt) outcome {
	replaces := a.replaces
	out := is.converseOnce(ctx, a)
	if out.err != nil && out.acc != nil && is.accounts.outdated(ctx, out.acc, a.trace, out.err) {
		a.replaces = replaces
		out = is.converseOnce(ctx, a)
	}
	if isAccountGone(out.err) {
		is.accounts.forget(out.acc)
	}
	return out
}

func (is *issuer) converseOnce(ctx context.Context, a *attempt) outcome {
	a.enter(StageAccount)
	acc, err := is.accounts.get(ctx)
	if err != nil {
		return outcome{err: err}
	}
	a.client = is.ca.Client(acc.key, acc.kid)
	a.unfinished = is.unfinished.take(a.sub, acc.kid, is.now())
	key, chain, leaf, err := a.run(ctx)
	is.unfinished.put(a.sub, a.unfinished)
	if err == nil && is.memory.isBarred(leaf) {
		err = withdrawn(ctx, a.client, leaf)
	}
	if err != nil {
		if problems := acmeProblems(err); len(problems) > 0 && problems[len(problems)-1].StatusCode == http.StatusNotFound {
			is.ca.Forget() // its resources may have moved
		}
		return outcome{acc: acc, err: err}
	}
	is.lastWorked.note(a.host, a.worked)
	cert, data, err := is.keep(a, key, chain, leaf)
	return outcome{cert: cert, data: data, acc: acc, err: err}
}

// cleanUp leaves nothing behind at the CA and in the Cache, detached from the
// attempt, whose time may be over. The next issuance for the host waits for
// that, as it uses the same keys of the Cache.
func (is *issuer) cleanUp(a *attempt, let func()) {
	forget := func() {
		for _, f := range a.cleanup {
			f(context.Background()) // bounded by cacheTimeout; Close waits
		}
	}
	ok := is.tasks.Go(func(ctx context.Context) {
		defer let()
		forget()
		if len(a.pending) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, deactivateTimeout)
		defer cancel()
		callOut(ctx, is.calls, "deactivation "+a.id, func(ctx context.Context) (struct{}, error) {
			a.deactivate(ctx)
			return struct{}{}, nil
		})
	})
	if !ok { // closed; this goroutine is one that Close waits for
		forget()
		let()
	}
}

// keep makes what the CA issued ready to be kept. Dates that do not fit the
// local clock are the clock's fault: the certificate is kept all the same.
func (is *issuer) keep(a *attempt, key crypto.Signer, chain [][]byte, leaf *x509.Certificate) (*certificate, []byte, error) {
	cert := newCertificate(a.sub, key, chain, leaf)
	data, err := encodeBundle(key, chain)
	if err != nil {
		return nil, nil, err
	}
	now := is.now()
	behind, ahead := now.Before(cert.notBefore), !cert.usable(now.Add(minRenewal))
	if !behind && !ahead && !isAged(cert, now) {
		return cert, data, nil
	}
	err = clockError(a.host, cert, now)
	is.clockOff.Store(true)
	a.audit(Event{Kind: EventClockOff, Stage: StageFinalize, Serial: serialOf(leaf), NotAfter: cert.notAfter, Err: err})
	if !ahead {
		err = nil // it can be served: clients go by their own clocks
	}
	return cert, data, err
}

// succeed publishes a certificate: memory first, so that handshakes have it
// whatever becomes of the cache.
func (is *issuer) succeed(a *attempt, req issueRequest, out outcome) {
	cert := out.cert
	a.setStage(StageStore)
	known := is.failures.forget(req.sub)
	if is.memory.issued(cert, req.grant, is.now()) {
		is.schedule(cert)
	}
	is.visits.reached(a.host, req.grant, is.now())
	if out.err == nil { // else it is told by fail: the certificate cannot be served
		is.issuances.succeeded(time.Since(a.wanted))
		a.audit(Event{Kind: EventIssued, Stage: StageStore, OrderURL: out.order, Serial: serialOf(cert.leaf), NotAfter: cert.notAfter,
			Reason: req.reason, Duration: is.now().Sub(a.began)})
	}
	is.store.putCertificate(cert, out.data, func() bool { return is.memory.current(cert.subject) == cert })
	if known && !isAged(cert, is.now()) { // else holdBack writes another
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
	if is.tasks.isClosed() {
		return is.closed(a, out)
	}
	now := is.now()
	e := &IssuanceError{Host: a.host, KeyType: a.sub.keyType.String(), Stage: out.stage, CA: is.dir, Attempt: a.id, Attempts: 1, Time: now, Err: cause}
	is.issuances.failedAt(e.Stage)
	failed := Event{Kind: EventIssueFailed, Stage: e.Stage, OrderURL: out.order, Reason: req.reason, Duration: now.Sub(a.began), Err: e}
	if c := out.cert; c != nil {
		failed.Serial, failed.NotAfter = serialOf(c.leaf), c.notAfter
	}
	if whole {
		e.RetryAt, _, _ = is.breaker.state()
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
	rec := &failure{err: e, machine: is.machine, standing: req.grant.standing, clockOff: clockOff, since: now, lastRead: now}
	if last != nil {
		rec.since = last.since
	}
	if out.acc != nil {
		rec.account = string(out.acc.kid)
	}
	is.remember(req.sub, rec)
	failed.RetryAt, failed.Count = e.RetryAt, e.Attempts
	a.audit(failed)
	is.tasks.Go(func(ctx context.Context) { is.saveFailure(context.WithoutCancel(ctx), req.sub, rec) })
	return e
}

// newAttemptID returns what ties the events of one attempt together.
func newAttemptID() string { return strings.ToLower(rand.Text()[:10]) }

// machineName is what failure records are signed with.
func machineName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
