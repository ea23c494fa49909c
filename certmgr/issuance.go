package certmgr

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/probe"
)

// issueRequest describes a requested issuance.
type issueRequest struct {
	sub         subject
	grant       grant
	reason      string
	asker       asker  // the client whose handshake began it
	by          behest // of an operator
	priority    priority
	explanation string // URL of the CA's page on why to renew
	suggested   bool   // the CA suggests to renew the certificate now
	override    bool   // by an operator: ignores backoff, breaker and pacing
	second      bool   // the host has a certificate of its other key type; see seconds

	found *probe.Result // of the preflight just before, or nil
	group groupOfIssuance
}

// hostsOwnAfter is how long the CA fails a host, and not others, before that is
// taken for a fault of the host's.
const hostsOwnAfter = 15 * time.Minute

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
	locks     issueLocks
	issuances *issuances                            // counted
	issues    *flight.Flight[subject, *certificate] // in flight, by subject
	unlisted  unlistedHosts
}

// lastFailure sets the failure that precedes the issuance, and returns what it
// is for. If it is an extra attempt that cannot be recorded, that is an error.
func (is *issuer) lastFailure(ctx context.Context, i *issuance) (reason string, err error) {
	last := is.health.failures.last(i.req.sub)
	if i.last = last; last == nil || i.req.override {
		return i.req.reason, nil
	}
	if i.last, err = is.health.spend(ctx, i.req.sub, last); i.last == last {
		return i.req.reason, err
	}
	return i.req.reason + ", before the end of the backoff: " + last.extra.why, err
}

// conclude applies the outcome of an attempt to the CA's state, the host and
// the waiters.
func (is *issuer) conclude(ctx context.Context, i *issuance, out outcome) (cert *certificate, err error) {
	what, whole, back := is.health.judge(ctx, i, out, !is.spareUntil(i).IsZero())
	if back {
		is.keeper.caIsBack()
	}
	is.orders.watchClock()
	i.req.group.ended(out)
	noteLeavers(is, i)
	offList := takenOffBy(ctx)
	if out.cert != nil {
		is.orders.unfinished.put(i.req.sub, nil)
		if offList == nil {
			out.cert, offList = is.publish(ctx, i, out.cert)
		}
	}
	if offList != nil {
		return nil, is.canceled(i, out, offList)
	}
	if out.cert != nil {
		is.succeed(i, out)
		if offList := takenOffBy(ctx); offList != nil { // while the certificate was stored
			return nil, offList
		}
	}
	switch {
	case out.err == nil:
		if out.cert.dates().IsAged(is.now()) {
			is.holdBack(i, out)
		}
		return out.cert, nil
	case is.tasks.IsClosed():
		return nil, is.closed(i, out)
	case isElsewhere(is, i, out):
		return nil, waitForDNS(is, i, out)
	}
	is.health.failures.attempts.end(i.req.sub.id(), i.counted.at)
	if whole {
		err = is.failAsWhole(i, out)
	} else {
		err = is.fail(i, out, what)
	}
	if whole || i.req.sub.alg == bundle.RSA { // else fail has written the record
		is.health.updateRecord(i)
	}
	return nil, err
}

// newError returns the error of an issuance that failed at a stage, counted as
// its first failure.
func (is *issuer) newError(i *issuance, stage audit.Stage, cause error) *IssuanceError {
	return &IssuanceError{
		Host:     i.host(),
		KeyType:  i.req.sub.alg.String(),
		Stage:    stage,
		CA:       is.dir,
		Attempt:  i.id,
		Attempts: 1,
		Time:     is.now(),
		URL:      acmeclient.URL(cause),
		Err:      cause,
	}
}

// holdBack prevents a clock that seems to be ahead from ordering again as soon
// as it considers the certificate expired.
func (is *issuer) holdBack(i *issuance, out outcome) {
	e := is.newError(i, audit.StageFinalize, nil)
	e.State = StateBackoff
	e.RetryAt = out.cert.dates().AgedUntil(e.Time)
	e.Err = clockError(i.host(), out.cert, e.Time)
	rec := is.health.newFailure(i, e)
	rec.clockOff = true
	is.health.remember(i.req.sub, rec)
	is.saveFailure(i, rec)
}

// saveFailure writes the record to the Cache.
func (is *issuer) saveFailure(i *issuance, rec *failure) {
	writeFor(is, i, func(ctx context.Context) {
		i.counted.wait()
		is.health.saveFailure(ctx, i.req.sub, rec)
	})
}

// publish brings a certificate into service, before it is written to the Cache,
// so that handshakes get it even if that fails. If the host is no longer
// allowed, it returns the reason and publishes nothing. A certificate that was
// revoked meanwhile is not published either. It returns the certificate as it is
// in memory, if it is.
func (is *issuer) publish(ctx context.Context, i *issuance, cert *certificate) (_ *certificate, offList *refusal) {
	if cert.subject.group {
		return publishShared(ctx, is, i, cert)
	}
	published, offList := is.memory.publish(cert, i.req.grant, is.now(), func() *refusal {
		return cmp.Or(takenOffBy(ctx), is.gate.offList(i.host()))
	})
	if published {
		is.keeper.scheduleIssued(cert)
	}
	return cert, offList
}

// succeed reports a certificate and writes it to the Cache.
func (is *issuer) succeed(i *issuance, out outcome) {
	cert, req := out.cert, i.req
	i.enter(audit.StageStore)
	known := is.health.failures.forget(req.sub)
	is.health.failures.attempts.succeeded(req.sub.id())
	for _, host := range i.req.group.names {
		is.health.dns.end(host, endedByOrder)
		is.keeper.noteReached(host, req.grant)
	}
	if out.err == nil { // else it is told by fail: the certificate cannot be served
		is.issuances.succeeded(time.Since(i.requestedAt))
		is.audit.Emit(i.event(audit.Event{
			Kind:     audit.CertificateIssued,
			Stage:    audit.StageStore,
			OrderURL: out.order,
			Profile:  out.profile,
			Serial:   serialOf(cert.leaf),
			NotAfter: cert.notAfter,
			Reason:   req.reason,
			Duration: time.Since(i.began),
		}))
	}
	storeCertificate(is, i, out, func() bool { return is.memory.current(cert.subject) == cert })
	is.keeper.deliver(cert)
	settleMembers(is, i, cert)
	if known && !cert.dates().IsAged(is.now()) { // otherwise holdBack writes another
		writeFor(is, i, func(ctx context.Context) {
			i.counted.wait()
			for _, key := range recordKeysOf(req.sub) {
				is.health.deleteRecord(ctx, key, req.grant.trust)
			}
		})
	}
}

// settle returns what to do once the certificate of an outcome is in the Cache:
// the entry of its order is no longer needed.
func (is *issuer) settle(i *issuance, out outcome) func(context.Context) {
	return func(ctx context.Context) {
		if c := out.cert; c.isShared() {
			putGroupRecord(ctx, is, i, c)
			pointMembers(is, c)
		}
		// First: a process that is killed in between finds the order's entry.
		is.health.clearRecord(i)
		if out.entry {
			is.orders.unfinished.remove(ctx, i.req.sub, out.order)
		}
	}
}

// failed counts a failed attempt, and returns its error and its event.
func (is *issuer) failed(i *issuance, out outcome) (*IssuanceError, audit.Event) {
	e := is.newError(i, out.stage, out.err)
	is.issuances.failedAt(e.Stage)
	failed := i.event(audit.Event{
		Kind:     audit.IssuanceFailed,
		Stage:    e.Stage,
		OrderURL: out.order,
		Reason:   i.req.reason,
		Duration: time.Since(i.began),
		Err:      e,
	})
	if c := out.cert; c != nil {
		failed.Serial, failed.NotAfter = serialOf(c.leaf), c.notAfter
	}
	return e, failed
}

// failAsWhole returns the error of an attempt that failed because the CA fails
// as a whole. It does not count against the host.
func (is *issuer) failAsWhole(i *issuance, out outcome) error {
	e, failed := is.failed(i, out)
	e.RetryAt = is.health.breaker.state().wait.Until
	failed.RetryAt = e.RetryAt
	is.audit.Emit(failed)
	if !i.req.override {
		is.health.waiting.add(i.req, e.Time)
	}
	return e
}

// isAskedToWait reports whether the CA wants no request for a while.
func isAskedToWait(err error) bool { return acmeclient.IsRateLimited(err) || retryAfter(err) > 0 }

// spareUntil returns when the host's certificate is due if an operator had it
// renewed before, or zero. If that fails, nothing is wrong with the host: the
// valid certificate is renewed as planned.
func (is *issuer) spareUntil(i *issuance) time.Time {
	cert := is.memory.current(i.req.sub)
	if !i.req.override || cert == nil || !cert.usable(is.now()) {
		return time.Time{}
	}
	return is.keeper.notDueBefore(i.req.sub)
}

// fail returns the error of any other failed attempt, and records it for the
// host.
func (is *issuer) fail(i *issuance, out outcome, what trouble) error {
	e, failed := is.failed(i, out)
	due := is.spareUntil(i)
	if none := postponed(out.err); none != nil {
		due = none.retryAt
	}
	if !due.IsZero() {
		e.RetryAt, failed.RetryAt, failed.Count = due, due, e.Attempts
		is.audit.Emit(failed)
		return e
	}
	if isAfterPreflight(e.Stage) {
		is.health.dns.end(i.req.sub.id(), endedByOrder) // an operator's
	}
	rec := is.health.newFailure(i, e)
	if i.last != nil {
		e.Attempts += i.last.err.Attempts
		rec.since, rec.blame, rec.extra = i.last.since, i.last.blame, i.last.extra.carried()
	}
	before := rec.blame
	rec.blame = before.after(what, e.Time)
	if wait := retryAfter(out.err); wait > 0 {
		rec.asked = e.Time.Add(wait)
	}
	e.RetryAt = pace.Later(is.retryAt(i, rec), rec.asked)
	if at, ok := is.orders.comeBack(i, e); ok {
		e.Attempts, e.RetryAt = max(e.Attempts-1, 1), at
		rec.blame = before
	}
	if missing, ok := errors.AsType[needsIssuer](out.err); ok { // it is served from then on
		e.RetryAt = pace.Earlier(e.RetryAt, pace.Later(missing.served.Add(time.Second), rec.asked))
	}
	e.hold(is.orders.ca.CAAIssuer())
	if errors.Is(out.err, ErrClock) {
		rec.clockOff = true
		// The next certificate would look the same: wait for the clock, or for
		// most of the certificate's real lifetime.
		if cert := is.memory.current(i.req.sub); cert != nil {
			e.RetryAt = pace.Later(e.RetryAt, e.Time.Add(cert.notAfter.Sub(cert.notBefore)/2))
		}
	}
	if out.acc != nil {
		rec.account = string(out.acc.URL)
	}
	failed.RetryAt, failed.Count = e.RetryAt, e.Attempts
	e.describe(&failed)
	is.health.remember(i.req.sub, rec)
	is.audit.Emit(failed)
	is.saveFailure(i, rec)
	return e
}

// retryAt returns when a host is tried again after a failure, unless the CA asks
// for a longer wait. If the failure is the CA's and visitors are refused because
// of it, the waits are those of an outage. They are the host's if
// Manager.Backoff sets them, or if the CA has failed this host for long but
// works for others.
func (is *issuer) retryAt(i *issuance, rec *failure) time.Time {
	now, blame := rec.err.Time, rec.blame
	cert := is.memory.current(i.req.sub)
	if cert != nil && !cert.usable(now) {
		cert = nil
	}
	if blame.ca == 0 {
		return now.Add(is.settings.backoffFor(blame.host, cert))
	}
	calm := now.Add(is.settings.backoffFor(blame.ca, cert))
	itsOwn := now.Sub(blame.caSince) > hostsOwnAfter && is.health.breaker.hasWorkedSince(blame.caSince)
	if itsOwn || len(is.settings.backoff) > 0 {
		return calm
	}
	soon := pace.Next(now, time.Since(i.began), pace.OutageWait(blame.ca, now.Sub(blame.caSince)))
	if cert != nil {
		return pace.Earlier(calm, pace.Later(soon, cert.notAfter))
	}
	return soon
}
