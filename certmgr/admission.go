package certmgr

import (
	"context"
	"errors"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/pace"
)

// notBegun reports an issuance that failed before it began. If no slot or lock
// became free in time, or there were too many attempts, that is recorded like a
// failure but not counted as one.
func (is *issuer) notBegun(ctx context.Context, i *issuance, cause error) error {
	if offList := takenOffBy(ctx); offList != nil {
		return is.canceled(i, outcome{stage: audit.StageQueue}, offList)
	}
	if is.tasks.IsClosed() && errors.Is(cause, ErrClosed) {
		return &refusal{kind: ErrClosed, host: i.host()} // not the error of the wait
	}
	tooMany, cut := cause.(*tooManyAttempts)
	if !cut && (!errors.Is(cause, ErrBusy) || errors.Is(cause, ErrBackoff) || errors.Is(cause, ErrCache)) || is.tasks.IsClosed() {
		return cause // reported by the breaker, the fleet or Close
	}
	e := is.newError(i, audit.StageQueue, cause)
	e.State = StateBackoff
	e.RetryAt = e.Time.Add(pace.Jitter(pace.DefaultBackoff(1)))
	if cut {
		e.RetryAt = tooMany.next
	}
	is.health.putOff(i, e, cut)
	if cut && !tooMany.tell {
		return &refusal{kind: ErrBackoff, cause: e}
	}
	is.issuances.failedAt(audit.StageQueue)
	is.audit.Emit(i.event(audit.Event{
		Kind:    audit.IssuanceFailed,
		Stage:   audit.StageQueue,
		RetryAt: e.RetryAt,
		Reason:  i.req.reason,
		Err:     e,
	}))
	if cut {
		return &refusal{kind: ErrBackoff, cause: e}
	}
	return e
}

// lockTimeout is as long as an attempt may take, and then the deletion of its
// answers from the Cache, one for each type of challenge, and the update of its
// order's entry.
const lockTimeout = attemptTimeout + 3*cacheTimeout

// lock waits for the host's lock as long as an attempt may take.
func (is *issuer) lock(ctx context.Context, sub subject) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	unlock, err = is.locks.lock(ctx, is.namesOf(sub))
	if err != nil {
		return nil, &refusal{kind: ErrBusy, host: sub.host(), text: "another issuance for this host has not ended", cause: err}
	}
	return unlock, nil
}

// priority orders the waiters for an issuance slot.
type priority uint8

const (
	urgentRenewal    priority = iota // less than 1/6 of the lifetime is left
	withVisitor                      // a trusted host with a handshake waiting
	untrustedVisitor                 // an untrusted host, likewise
	background                       // renewal in time, Start
	secondary                        // a second certificate of a host

	priorities = 5
)

// admit waits for a slot, takes the fleet's lock, and checks the breaker, which may
// have opened meanwhile. Whoever waits for a slot keeps no other machine waiting.
func (is *issuer) admit(ctx context.Context, i *issuance) (release func(), err error) {
	req := i.req
	i.enter(audit.StageQueue)
	// Hosts that failed before and untrusted hosts are suspects. Second
	// certificates have no more slots either.
	suspect := is.health.failures.last(req.sub) != nil || req.grant.trust == untrusted || req.second
	wait, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	is.health.breakerStore.restore(wait)
	is.orders.budget.restore(wait)
	release, err = is.slots.Acquire(wait, flight.Claim{Priority: int(req.priority), Suspect: suspect && !req.override})
	if err != nil {
		return nil, &refusal{kind: ErrBusy, host: i.host(), cause: err}
	}
	if offList := takenOffBy(ctx); offList != nil {
		release()
		return nil, offList
	}
	if err = enterFleet(ctx, is, i); err == nil {
		if err = is.mayBegin(ctx, i); err == nil {
			return release, nil
		}
		is.takeBack(i)
	}
	release()
	i.lease.release()
	return nil, err
}

// mayBegin returns an error if an attempt may not begin now. If it may, or if
// there is an error, takeBack undoes it.
func (is *issuer) mayBegin(ctx context.Context, i *issuance) error {
	if !i.req.override {
		// An issuance for the host's other key type may have failed meanwhile.
		if e := is.health.dns.of(i.req.sub.id()); e != nil {
			return waitingForDNS(e)
		}
		if rec := is.health.failures.active(i.req.sub, is.now()); rec != nil {
			return backingOff(rec)
		}
		if err := is.health.countAttempt(i, func() bool { return is.orders.unfinished.isFinalized(ctx, i.req.sub) }); err != nil {
			return err
		}
		if err := is.health.pass(ctx, i); err != nil {
			return err
		}
	}
	if err := is.orders.chooseProfile(ctx, i); err != nil {
		return err
	}
	return is.orders.reserve(ctx, i, is.health.failures.last(i.req.sub))
}

// takeBack undoes mayBegin for an attempt that does not begin.
func (is *issuer) takeBack(i *issuance) {
	is.health.uncountAttempt(i)
	is.orders.giveBack(i)
	if i.one {
		is.health.breaker.giveBack()
		i.one = false
	}
}
