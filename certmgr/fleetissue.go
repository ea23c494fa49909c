package certmgr

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/pace"
)

// inFleet is what an issuance knows of other machines. Only its own goroutine uses
// it.
type inFleet struct {
	had       *certificate // in memory when the issuance was asked for, or nil
	lease     *heldLease   // nil if there is no fleet, and while another machine issues
	found     *foundOrder  // in the Cache under the lease, or nil if there is no fleet
	following time.Time    // since when it waits for others, by the monotonic clock; zero if it does not
	told      string       // the owner of the lock in the last event
	lost      int          // leases that were lost
}

// awayState says that another machine issues in place of this one. Other goroutines
// may use it.
type awayState struct {
	at   atomic.Pointer[elsewhere] // nil while that is not so
	here context.Context           // ends when that is first so
	end  context.CancelFunc
}

func (a *awayState) begin() { a.here, a.end = context.WithCancel(context.Background()) }

// goElsewhere notes that another machine issues.
func (i *issuance) goElsewhere(at *elsewhere) {
	i.away.at.Store(at)
	i.away.end()
}

// holder returns the machine that issues in place of this one, or "".
func (i *issuance) holder() string {
	if at := i.away.at.Load(); at != nil {
		return at.owner
	}
	return ""
}

// maxLost is how many leases an issuance may lose before it is given up: the next
// one is begun by whoever asks for it.
const maxLost = 3

// lostWait is the wait after an attempt that was cut short because the Cache, which
// can lock, cannot be written. It doubles with each.
const lostWait = 2 * time.Second

// issue is the body of an issuance's call. While another machine issues for the
// host, it follows that one, and takes over if no certificate comes of it.
func (is *issuer) issue(ctx context.Context, i *issuance) (*certificate, error) {
	is.locks.fleet.note(ctx, i)
	for {
		cert, err := issueHere(ctx, is, i)
		switch e := err.(type) {
		default:
			return cert, err
		case *elsewhere:
			if cert, err = followOther(ctx, is, i, e); cert != nil || err != nil {
				return cert, err
			}
		case *lostLease:
			if i.lost++; i.lost >= maxLost {
				return nil, &refusal{kind: ErrCache, host: i.host(), text: "its issuance is given up for now", cause: e}
			}
			if e.isOwnDoing() && flight.Sleep(ctx, pace.Jitter(lostWait<<i.lost)) != nil {
				return nil, is.notBegun(ctx, i, context.Cause(ctx))
			}
		}
	}
}

// issueHere makes one attempt, unless another machine does: then the error is an
// *elsewhere. It is a *lostLease if the attempt was cut short by that.
func issueHere(ctx context.Context, is *issuer, i *issuance) (*certificate, error) {
	unlock, err := is.lock(ctx, i.req.sub)
	if err != nil {
		return nil, is.notBegun(ctx, i, err)
	}
	// Not before: what an earlier attempt called may have been late, and used these.
	i.lease, i.found, i.trace, i.began = nil, nil, new(acmeclient.Trace), time.Time{}
	release, err := is.admit(ctx, i)
	if err != nil {
		unlock()
		if have, ok := err.(errHave); ok {
			return have.cert, nil
		}
		return nil, is.notBegun(ctx, i, err)
	}
	lease := i.lease
	concluded := make(chan struct{})
	defer close(concluded)
	reason, err := is.lastFailure(ctx, i)
	if err != nil {
		is.takeBack(i)
		unlock()
		lease.release()
		release()
		return nil, err
	}
	if is.locks.fleet == nil { // else enterFleet has
		recallMembers(ctx, is, i)
	}
	i.req.group.names = is.namesToOrder(i.req.sub)
	i.began = time.Now()
	is.health.recordAttempt(i)
	is.audit.Emit(i.event(i.req.asker.event(audit.Event{
		Kind:           audit.IssuanceStarted,
		Decision:       audit.Allowed,
		Rule:           i.req.grant.rule(i.host()),
		Stage:          audit.StageOrder,
		Reason:         reason,
		ExplanationURL: i.req.explanation,
	})))
	attempt, cancel := lease.attempt(ctx)
	defer cancel()
	over := sync.OnceFunc(func() {
		lease.release()
		unlock()
	})
	out, begun := is.orders.attempt(attempt, i, func() {
		// The next issuance for the host begins when this one has left nothing
		// behind and its outcome is known.
		<-concluded
		over()
	})
	if !begun {
		defer over()
	}
	is.orders.giveBack(i)
	release()
	if out.err != nil && out.stage == audit.StageChallenge {
		lease.confirm(ctx)
	}
	if lost := lease.check(); lost != nil && out.cert == nil && ctx.Err() == nil {
		return nil, cutShort(is, i, out, lost)
	}
	return is.conclude(ctx, i, out)
}

// cutShort ends an attempt whose lease was lost. It is no failure, neither of the
// host nor of the CA, and does not count: another machine may have taken over.
func cutShort(is *issuer, i *issuance, out outcome, lost error) error {
	if i.one {
		is.health.breaker.giveBack()
		i.one = false
	}
	is.health.uncountAttempt(i)
	is.health.updateRecord(i)
	is.audit.Emit(i.event(audit.Event{
		Kind:     audit.IssuanceCanceled,
		Rule:     "Lease",
		Stage:    out.stage,
		OrderURL: out.order,
		Reason:   "it begins again, unless another machine issues by now; an order is kept",
		Duration: time.Since(i.began),
		Err:      lost,
	}))
	return lost
}

// note notes what is in memory when an operator asks for another certificate: the
// newest one of the Cache.
func (f *fleet) note(ctx context.Context, i *issuance) {
	if f != nil && i.req.override {
		f.loader.read(ctx, i.req.sub, i.req.grant, freshly)
		i.had = f.loader.memory.current(i.req.sub)
	}
}

// enterFleet takes the fleet's lock for an attempt, and finds out what other machines
// have done since it was asked for. The error is an *elsewhere, or an errHave if
// there is a certificate, or wraps ErrCache or ErrKeySource.
func enterFleet(ctx context.Context, is *issuer, i *issuance) error {
	f := is.locks.fleet
	if f == nil {
		return nil
	}
	lease, err := f.leases.take(ctx, i.req.sub)
	if err != nil {
		if held, ok := err.(*cache.HeldError); ok {
			return f.newElsewhere(i.req.sub, held)
		}
		return withHost(err, i.host())
	}
	i.lease = lease
	i.away.at.Store(nil)
	ctx = lease.guard(ctx) // a layered Cache returns no copies then, which may be outdated
	var (
		wg        sync.WaitGroup
		cert      *certificate
		noOrder   error
		noEntries error
	)
	wg.Go(func() { i.found, noOrder = f.orders.readShared(ctx, i.req.sub) })
	wg.Go(func() {
		recallMembers(ctx, is, i)
		cert, noEntries = f.arrived(ctx, i)
	})
	wg.Go(func() { recallVerdict(ctx, f.health, i) })
	wg.Go(func() { recallWait(ctx, is, i) })
	wg.Wait()
	switch {
	case cert != nil:
		return errHave{cert}
	case noEntries != nil:
		return withHost(noEntries, i.host())
	case noOrder != nil && !lease.isLocal():
		return withHost(noOrder, i.host())
	}
	return nil
}

// present is order.Request's Present. In a fleet the CA is not asked to validate what
// other machines cannot answer.
func (c *conversation) present(answers *challenge.Answers) func(context.Context, *acme.Client, *acme.Challenge, string) (*challenge.Answer, error) {
	return func(ctx context.Context, client *acme.Client, chal *acme.Challenge, host string) (*challenge.Answer, error) {
		answer, err := answers.Present(ctx, client, chal, host)
		if err == nil && !c.lease.isLocal() && !answer.Stored() {
			c.lease.lose(errNotPresented)
		}
		return answer, err
	}
}

// writeFor has a task write for an issuance, under its lease if there is one, which is
// kept until then. Close does not interrupt it.
func writeFor(is *issuer, i *issuance, f func(ctx context.Context)) {
	lease := i.lease.keep()
	if !is.tasks.Go(func(ctx context.Context) {
		defer lease.release()
		f(lease.guard(context.WithoutCancel(ctx)))
	}) {
		lease.release()
	}
}

// storeCertificate writes the certificate of an outcome to the Cache. The lease is
// kept until that is done, or given up.
func storeCertificate(is *issuer, i *issuance, out outcome, current func() bool) {
	lease := i.lease.keep()
	settle := is.settle(i, out)
	is.store.putCertificate(certificateWrite{
		cert:    out.cert,
		put:     func(ctx context.Context) error { return putEntry(ctx, is, i, lease, out) },
		current: current,
		stored:  func(ctx context.Context) { settle(lease.guard(ctx)) },
		ended:   lease.release,
	})
}

// putEntry writes the entry of a certificate, under the lease of its issuance, or
// under another one if that has ended. errStored means that a successor has stored
// a certificate that is not older, which is served then.
func putEntry(ctx context.Context, is *issuer, i *issuance, lease *heldLease, out outcome) error {
	cert, f := out.cert, is.locks.fleet
	err := is.store.put(lease.guard(ctx), cert.entry, out.data)
	if err == nil || !isLost(err) || lease == nil {
		return err
	}
	again, _, err := f.leases.lock(ctx, lease.name)
	if _, held := err.(*cache.HeldError); held {
		if same, other, _ := f.stored(ctx, i, cert); same || other {
			return errStored
		}
	}
	if err != nil {
		return err
	}
	defer f.leases.unlock(context.WithoutCancel(ctx), lease.name, again)
	switch same, other, err := f.stored(cache.Guard(ctx, again), i, cert); {
	case err != nil:
		return err
	case same:
		return nil
	case other:
		return errStored
	}
	return is.store.put(cache.Guard(ctx, again), cert.entry, out.data)
}

// stored reports whether the entry of a certificate has that, or another one that is
// not older. If it is newer, it is served from now on.
func (f *fleet) stored(ctx context.Context, i *issuance, cert *certificate) (same, other bool, err error) {
	data, err := f.store.read(ctx, f.store.reads, cert.entry)
	if errors.Is(err, ErrCacheMiss) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	have, err := certificateFromBundle(cert.subject, data, f.now())
	switch {
	case err != nil || have.notBefore.Before(cert.notBefore):
		return false, false, nil
	case have.leaf.Equal(cert.leaf):
		return true, false, nil
	}
	f.loader.read(ctx, cert.subject, i.req.grant, freshly)
	return false, true, nil
}
