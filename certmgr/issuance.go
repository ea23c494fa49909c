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
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
)

// issueRequest is what somebody wants issued.
type issueRequest struct {
	sub      subject
	grant    grant
	reason   string
	priority priority
	override bool // an operator's: neither backoff nor breaker nor pace hold it back
}

// issuer turns requests into certificates in memory and cache.
type issuer struct {
	m          *Manager
	now        func() time.Time
	tasks      *tasks
	audit      *auditor
	store      *store
	memory     *memory
	failures   *failures
	breaker    *breaker
	slots      *slots
	accounts   *accounts
	calls      *callouts // attempts, which run the user's code too
	challenges *challenges
	ca         *acmeclient.CA
	dir        string
	machine    string
	locker     locker
	schedule   func(*certificate)
	lastWorked typeMemory
}

// issue is the body of an issuance's flight.
func (is *issuer) issue(ctx context.Context, c *call[*certificate], req issueRequest) (*certificate, error) {
	unlock, err := is.lock(ctx, req.sub)
	if err != nil {
		return nil, err
	}
	a := &attempt{
		id: newAttemptID(), host: req.sub.host(), sub: req.sub, extra: is.m.ExtraExtensions,
		solvers: is.challenges.solver, setStage: c.setStage, trace: new(acmeclient.Trace),
	}
	a.audit = func(e Event) {
		e.Host, e.KeyType, e.Attempt, e.CA = a.host, a.sub.keyType.String(), a.id, is.dir
		is.audit.emit(e)
	}
	last := is.failures.last(req.sub)
	a.types = is.lastWorked.pick(a.host, last, is.m.useHTTP01.Load())

	release, probe, err := is.admit(ctx, a, req, last != nil || req.grant.standing == open)
	if err != nil {
		unlock()
		return nil, err
	}
	begin := is.now()
	a.audit(Event{Kind: EventIssuing, Stage: StageOrder, Reason: req.reason})
	out := is.attempt(ctx, c, a, unlock)
	release()
	cause, clockOff := out.err, false
	if errors.Is(out.err, ErrClock) {
		cause, clockOff = nil, true // the CA did its part
	}
	whole := is.breaker.done(a.host, probe, is.troubleOf(a, out.stage, cause), cause, retryAfter(cause))
	if out.cert != nil {
		is.succeed(ctx, a, req, out, begin)
	}
	if out.err != nil {
		return nil, is.fail(a, req, out, last, whole, clockOff)
	}
	return out.cert, nil
}

// lock waits for the host's lock as long as an attempt may take.
func (is *issuer) lock(ctx context.Context, sub subject) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout+deactivateTimeout)
	defer cancel()
	unlock, err = is.locker.lock(ctx, sub)
	if err != nil {
		return nil, &refusal{kind: ErrBusy, host: sub.host(), text: "another issuance for this host does not end", cause: err}
	}
	return unlock, nil
}

// admit waits for a slot and asks the breaker, which may have opened meanwhile.
func (is *issuer) admit(ctx context.Context, a *attempt, req issueRequest, suspect bool) (release func(), probe bool, err error) {
	a.enter(StageQueue)
	wait, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	release, err = is.slots.acquire(wait, req.priority, suspect && !req.override)
	if err != nil {
		return nil, false, &refusal{kind: ErrBusy, host: a.host, cause: err}
	}
	if !req.override {
		if probe, err = is.breaker.allow(a.host); err != nil {
			release()
			return nil, false, err
		}
	}
	return release, probe, nil
}

// outcome is what an attempt came to. A certificate comes with its cache entry,
// with ErrClock it comes too.
type outcome struct {
	cert  *certificate
	data  []byte
	acc   *account
	stage Stage // the last one
	err   error
}

// attempt holds the conversation with the CA, within attemptTimeout. The
// user's code takes part in it (Client.Key, RetryBackoff, HTTPClient), so that
// it is a callback that may panic or ignore its context. The host's lock is
// given back when nothing of the attempt is left, which can be later.
func (is *issuer) attempt(ctx context.Context, c *issueCall, a *attempt, unlock func()) outcome {
	ctx, cancel := context.WithTimeoutCause(ctx, attemptTimeout, fmt.Errorf("no certificate within %v: %w", attemptTimeout, context.DeadlineExceeded))
	defer cancel()
	ctx = acmeclient.WithTrace(ctx, a.trace)
	out, err := callOut(ctx, is.calls, c.key, func(ctx context.Context) (outcome, error) {
		defer is.cleanUp(a, unlock)
		out := is.converse(ctx, a)
		out.stage = a.stage
		return out, nil
	})
	if errors.Is(err, ErrBusy) {
		unlock() // it did not begin
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

func (is *issuer) converse(ctx context.Context, a *attempt) (out outcome) {
	a.enter(StageAccount)
	acc, err := is.accounts.get(ctx)
	if err != nil {
		return outcome{err: err}
	}
	a.client = is.ca.Client(acc.key, acc.kid)
	key, chain, leaf, err := a.run(ctx)
	if err != nil {
		if isAccountGone(err) {
			is.accounts.forget(acc)
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
func (is *issuer) cleanUp(a *attempt, unlock func()) {
	ok := is.tasks.Go(func(ctx context.Context) {
		defer unlock()
		for _, forget := range a.cleanup {
			forget(context.WithoutCancel(ctx))
		}
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
	if !ok {
		unlock()
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
	if !behind && !ahead {
		return cert, data, nil
	}
	err = &refusal{kind: ErrClock, host: a.host, text: fmt.Sprintf("it says %s, but the CA has just issued a certificate for %s to %s; "+
		"set the clock, the certificate is kept", stamp(now), stamp(cert.notBefore), stamp(cert.notAfter))}
	a.audit(Event{Kind: EventClockOff, Stage: StageFinalize, NotAfter: cert.notAfter, Err: err})
	if !ahead {
		err = nil // it can be served: clients go by their own clocks
	}
	return cert, data, err
}

// succeed publishes a certificate: memory first, so that handshakes have it
// whatever becomes of the cache.
func (is *issuer) succeed(ctx context.Context, a *attempt, req issueRequest, out outcome, begin time.Time) {
	cert := out.cert
	a.setStage(StageStore)
	is.memory.put(cert, req.grant)
	known := is.failures.forget(req.sub)
	is.schedule(cert)
	a.audit(Event{Kind: EventIssued, Stage: StageStore, NotAfter: cert.notAfter, Reason: req.reason, Duration: is.now().Sub(begin)})
	is.store.putCertificate(cert, out.data, func() bool { return is.memory.current(cert.subject) == cert })
	if known {
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
		return &refusal{kind: ErrClosed, host: a.host, cause: cause}
	}
	now := is.now()
	e := &IssuanceError{Host: a.host, KeyType: a.sub.keyType.String(), Stage: out.stage, CA: is.dir, Attempt: a.id, Attempts: 1, Time: now, Err: cause}
	if whole {
		e.RetryAt, _, _ = is.breaker.state()
		a.audit(Event{Kind: EventIssueFailed, Stage: e.Stage, RetryAt: e.RetryAt, Reason: req.reason, Err: e})
		return e
	}
	if last != nil {
		e.Attempts += last.err.Attempts
	}
	e.RetryAt = now.Add(is.m.backoffFor(e.Attempts))
	e.RetryAt = later(e.RetryAt, now.Add(retryAfter(cause)))
	if clockOff {
		// The next one would look the same: wait for the clock, or for most
		// of the lifetime that the certificate really has.
		if cert := is.memory.current(req.sub); cert != nil {
			e.RetryAt = later(e.RetryAt, now.Add(cert.notAfter.Sub(cert.notBefore)/2))
		}
	}
	rec := &failure{err: e, machine: is.machine, standing: req.grant.standing, clockOff: clockOff, lastRead: now}
	if out.acc != nil {
		rec.account = string(out.acc.kid)
	}
	is.failures.put(req.sub, rec, now)
	a.audit(Event{Kind: EventIssueFailed, Stage: e.Stage, RetryAt: e.RetryAt, Count: e.Attempts, Reason: req.reason, Err: e})
	is.tasks.Go(func(ctx context.Context) { is.saveFailure(context.WithoutCancel(ctx), req.sub, rec) })
	return e
}

// troubleOf says what a failed attempt means for the CA.
func (is *issuer) troubleOf(a *attempt, stage Stage, err error) trouble {
	if err == nil {
		return troubleHost
	}
	if stage == StageAccount || a.trace.Failed() == acmeclient.EndpointDirectory || a.trace.Failed() == acmeclient.EndpointNewNonce {
		return troubleCA
	}
	if a.trace.Requests() == 0 {
		return troubleNone
	}
	e, ok := errors.AsType[*acme.Error](err)
	switch {
	case !ok && a.trace.Failed() != acmeclient.EndpointNone:
		return troubleOwn // no reply, or none that could be read
	case !ok:
		return troubleHost
	case acmeclient.IsRateLimited(e):
		if isAccountWide(e, a.host) {
			return troubleCA
		}
		return troubleOwn
	case e.StatusCode >= http.StatusInternalServerError:
		return troubleOwn
	}
	return troubleHost
}

// isAccountWide reports whether a rate limit is the account's and not a name's.
// No field of the problem says so; CAs name in its text what was counted.
func isAccountWide(e *acme.Error, host string) bool {
	text := strings.ToLower(e.Detail)
	return strings.Contains(text, "account") && !strings.Contains(text, host) && !strings.Contains(text, registeredDomain(host))
}

// retryAfter returns the longest wait that the CA asked for in err; the
// transport has made the header sane.
func retryAfter(err error) time.Duration {
	e, ok := errors.AsType[*acme.Error](err)
	if !ok || e.Header == nil {
		return 0
	}
	d, _ := acmeclient.RetryAfter(e.Header, time.Now())
	return min(d, maxRetryAfter)
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
