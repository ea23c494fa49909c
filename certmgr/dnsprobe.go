package certmgr

import (
	"context"
	"errors"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/order"
	"github.com/nostall/nostall/internal/probe"
)

const (
	// probeEvery is the shortest time between two probes of any names that wait for
	// DNS, or for a Start: 20 a second.
	probeEvery = 50 * time.Millisecond

	// maxProbing is how many of them may be in progress: each takes up to
	// probe.Timeout.
	maxProbing = 128

	// probeLockWait is how long a probe waits for the host's lock.
	probeLockWait = time.Second

	// seenFor is how long the result of a probe counts for the order that follows.
	seenFor = time.Minute
)

// seenHere is the result of a probe that found a name to lead here. The attempt
// that follows does not make another one: resolvers may not agree yet.
type seenHere struct {
	result probe.Result
	at     time.Time // by the monotonic clock
	waited bool      // it waited for DNS
}

// check makes the preflight of a host. The caller holds the host's lock.
func (o *orders) check(ctx context.Context, host string) probe.Result {
	var cleanup order.Cleanup
	defer func() { cleanup.Forget(context.WithoutCancel(ctx)) }()
	return o.checker.Check(ctx, host, cleanup.Later)
}

// lockForProbe waits for the host's lock. Whoever holds it for longer than a moment
// makes a preflight too.
func lockForProbe(ctx context.Context, l locker, names []string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, probeLockWait)
	defer cancel()
	return l.lock(ctx, names)
}

// waitForDNS returns the error of an attempt that found the host to lead
// elsewhere, if it is to wait for DNS. The attempt does not count.
func waitForDNS(is *issuer, i *issuance, out outcome) error {
	is.health.uncountAttempt(i)
	is.health.updateRecord(i)
	e := is.newError(i, out.stage, out.err)
	if waits := is.health.dns.note(i.req.sub, *e); waits != nil {
		is.keeper.scheduleProbe(i.req.sub, waits.RetryAt)
		writeFor(is, i, func(ctx context.Context) { is.health.dns.share(ctx, i.host()) })
		return waits
	}
	return e
}

// isElsewhere reports whether an attempt ended because the host, which waits for
// DNS then, does not lead here. A certificate that an operator had renewed early
// is renewed as planned.
func isElsewhere(is *issuer, i *issuance, out outcome) bool {
	return out.stage == audit.StagePreflight && errors.Is(out.err, ErrUnreachable) &&
		is.health.dns.covers(i.req.sub.id()) && is.spareUntil(i).IsZero()
}

// refuseWaiting answers a visitor of a host that waits for DNS: at once, and its
// next probe is brought forward. It returns nil for other hosts.
func (s *server) refuseWaiting(sub subject, hs handshake, g grant) error {
	e, waits, soon := s.health.dns.visited(sub.id(), s.now())
	if e == nil {
		return nil
	}
	if soon {
		s.issuer.keeper.scheduleProbe(waits, e.RetryAt)
	}
	if s.health.dns.mayRead(sub.id(), s.now()) {
		s.rereadInBackground(sub, hs.want, g)
	}
	return waitingForDNS(e)
}

func waitingForDNS(e *IssuanceError) error { return &refusal{kind: ErrBackoff, cause: e} }

// probe implements worker: it probes a name that waits for DNS, or for its first
// certificate by a Start. If it leads here, it is ordered.
func (r *renewals) probe(ctx context.Context, sub subject) {
	host, dns := sub.host(), r.health.dns
	cert := r.memory.current(sub)
	waits := dns.of(host)
	switch {
	case cert == nil && !r.schedule.isWanted(sub):
		dns.end(host, endedUnlisted)
		r.schedule.dropUnplanned(sub)
		return
	case !dns.covers(host):
		dns.end(host, endedUnlisted)
		probeDates{r.schedule}.resume(sub, nil)
		return
	case waits == nil && (cert != nil || r.health.failures.active(sub, r.now()) != nil):
		probeDates{r.schedule}.resume(sub, nil)
		return
	}
	r.reportLateness(cert, r.now())
	unlock, err := lockForProbe(ctx, r.issuer.locks.locker, r.namesOf(sub))
	if err != nil {
		r.schedule.again(sub, cert, r.now().Add(firstProbe), err)
		return
	}
	defer unlock()
	if e := dns.of(host); e != nil && e.RetryAt.After(r.now()) { // the host's other key type was faster
		r.schedule.again(sub, cert, e.RetryAt, e)
		return
	}
	r.look(ctx, sub, cert, waits)
}

// look looks where a host leads, unless another machine has just done so. A host that
// another machine has the lock of, and that does not wait yet, is left to the
// issuance, which follows that machine.
func (r *renewals) look(ctx context.Context, sub subject, cert *certificate, waits *IssuanceError) {
	host, dns := sub.host(), r.health.dns
	lease, err := r.issuer.locks.fleet.takeToLook(ctx, sub)
	_, held := errors.AsType[*cache.HeldError](err)
	switch {
	case held && waits != nil:
		r.schedule.again(sub, cert, r.now().Add(letOthersLook), waits)
		return
	case held:
		probeDates{r.schedule}.resume(sub, nil)
		return
	}
	defer lease.release() // without the store, each machine looks for itself
	ctx = lease.guard(ctx)
	if e := dns.adopt(sub, dns.shared.find(ctx, host)); e != nil {
		r.probeAgain(sub, cert, e)
		return
	}
	found := r.issuer.orders.check(ctx, host)
	switch now := r.now(); {
	case ctx.Err() != nil:
	case found.Verdict == probe.Elsewhere:
		if e := dns.note(sub, IssuanceError{
			Host:     host,
			KeyType:  sub.alg.String(),
			Stage:    audit.StagePreflight,
			CA:       r.dir,
			Attempts: 1,
			Time:     now,
			Err:      found.Err,
		}); e != nil {
			r.probeAgain(sub, cert, e)
			dns.share(ctx, host)
		}
	case found.Verdict == probe.Undecided && waits != nil:
		if e := dns.unsure(host, now); e != nil {
			r.schedule.again(sub, cert, e.RetryAt, e)
		}
	default:
		dns.end(host, endedHere)
		probeDates{r.schedule}.resume(sub, &seenHere{result: found, at: time.Now(), waited: waits != nil})
		for alg := range bundle.Algorithm(bundle.Algorithms) {
			r.schedule.hasten(r.subject(host, alg))
		}
	}
}

// probeAgain plans the next probe of a host that waits for DNS.
func (r *renewals) probeAgain(sub subject, cert *certificate, e *IssuanceError) {
	probeDates{r.schedule}.set(sub, e.RetryAt) // also if a Start wanted it that has ended
	r.schedule.again(sub, cert, e.RetryAt, e)
}

// isAfterPreflight reports whether an attempt that failed at a stage was let
// through by the preflight.
func isAfterPreflight(s audit.Stage) bool {
	switch s {
	case audit.StageQueue, audit.StageAccount, audit.StageKey, audit.StagePreflight:
		return false
	}
	return true
}
