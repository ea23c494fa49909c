package certmgr

import (
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// renewals knows when each certificate in memory is due, and has one goroutine
// that renews those which are. It holds subjects and no certificates: what is
// due is looked up again when its time has come.
type renewals struct {
	s *stages

	mu      sync.Mutex
	due     dueHeap
	items   map[subject]*dueItem
	running bool
	wake    chan struct{} // capacity 1
}

type dueItem struct {
	sub     subject
	at      time.Time
	index   int       // in the heap; -1: being renewed
	expired time.Time // the end of the certificate whose expiry was reported
}

func newRenewals(s *stages) *renewals {
	return &renewals{s: s, items: make(map[subject]*dueItem), wake: make(chan struct{}, 1)}
}

// renewAt returns when a certificate is due: with 1/3 of its lifetime left,
// with 1/2 under 10 days (Let's Encrypt's integration guide), or RenewBefore
// its end if that is set, but never in the first half of a lifetime.
func renewAt(c *certificate, renewBefore time.Duration) time.Time {
	lifetime := c.notAfter.Sub(c.notBefore)
	left := lifetime / 3
	if lifetime < 10*24*time.Hour {
		left = lifetime / 2
	}
	switch {
	case renewBefore > 0:
		left = min(renewBefore, lifetime/2)
	case left > 30*24*time.Hour:
		left = 30 * 24 * time.Hour // as autocert
	}
	// Up to a tenth earlier, so that what was issued together is not due together.
	return c.notAfter.Add(-left - rand.N(left/10+1))
}

// agedUntil is how long nothing is ordered again after a certificate that the
// local clock, which seems to be ahead, calls old: by the lifetime that it
// really has, and not by its dates.
func agedUntil(c *certificate, now time.Time) time.Time {
	return now.Add(c.notAfter.Sub(c.notBefore) / 5)
}

// notDueBefore bounds how soon a certificate just issued can be due, however
// short or old it is: no CA and no setting makes renewal a loop.
func notDueBefore(c *certificate, now time.Time) time.Time {
	left := c.notAfter.Sub(now)
	if isAged(c, now) {
		return later(now.Add(max(minRenewal, left*9/10)), agedUntil(c, now))
	}
	return now.Add(max(minRenewal, left/3))
}

const (
	// minRenewal is the least time between two issuances for a subject.
	minRenewal = time.Minute

	// retryRenewal is the wait after a renewal that could not begin: the
	// cache cannot be read, or no slot became free.
	retryRenewal = 5 * time.Minute

	// maxTimer makes the scheduler look at the clock now and then: timers do
	// not follow a clock that jumps, nor a machine that slept.
	maxTimer = 10 * time.Minute
)

// issued schedules a certificate that has just been issued.
func (r *renewals) issued(c *certificate) {
	now := r.s.now()
	r.at(c.subject, later(renewAt(c, r.s.m.RenewBefore), notDueBefore(c, now)))
}

// isAged reports whether a certificate that was just issued is older than CAs
// date them (Let's Encrypt by an hour): the local clock is ahead.
func isAged(c *certificate, now time.Time) bool {
	return now.Sub(c.notBefore) > c.notAfter.Sub(c.notBefore)/5
}

// loaded schedules a certificate that was in the cache; it may be due at once.
func (r *renewals) loaded(c *certificate) {
	r.at(c.subject, renewAt(c, r.s.m.RenewBefore))
}

// at sets when sub is due.
func (r *renewals) at(sub subject, t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items[sub]
	if it == nil {
		it = &dueItem{sub: sub, index: -1}
		r.items[sub] = it
	}
	it.at = t
	if it.index < 0 {
		heap.Push(&r.due, it)
	} else {
		heap.Fix(&r.due, it.index)
	}
	if !r.running {
		r.running = r.s.tasks.Go(r.run)
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// next returns when sub is due, for Snapshot.
func (r *renewals) next(sub subject) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.items[sub]; it != nil {
		return it.at
	}
	return time.Time{}
}

func (r *renewals) drop(sub subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.items[sub]; it != nil && it.index >= 0 {
		heap.Remove(&r.due, it.index)
	}
	delete(r.items, sub)
}

// run sends what is due on its way, until ctx ends.
func (r *renewals) run(ctx context.Context) {
	timer := time.NewTimer(maxTimer)
	defer timer.Stop()
	for {
		subs, wait := r.take(r.s.now())
		for _, sub := range subs {
			r.s.tasks.Go(func(ctx context.Context) { r.renew(ctx, sub) })
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-r.wake:
		case <-ctx.Done():
			return
		}
	}
}

// take removes what is due from the heap, and returns how long the rest waits.
func (r *renewals) take(now time.Time) (due []subject, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.due) > 0 && !now.Before(r.due[0].at) {
		it := heap.Pop(&r.due).(*dueItem)
		due = append(due, it.sub)
	}
	if len(r.due) == 0 {
		return due, maxTimer
	}
	return due, min(r.due[0].at.Sub(now), maxTimer)
}

// renew renews one subject's certificate, or has a first one issued where Start
// failed to, or says when to try again.
func (r *renewals) renew(ctx context.Context, sub subject) {
	s := r.s
	cert := s.memory.current(sub)
	if cert == nil && s.m.Hosts.match(sub.host()) != matchExact {
		r.drop(sub)
		return
	}
	g, ok := r.permitted(ctx, sub.host())
	if !ok {
		return
	}
	now := s.now()
	r.reportExpiry(cert, now)
	newer, err := s.loader.read(ctx, sub, g, quietly)
	if newer != nil && (cert == nil || newer.notBefore.After(cert.notBefore)) {
		return // another machine's; scheduled as it was loaded
	}
	if err == nil || errors.Is(err, ErrCacheMiss) {
		err = s.issuer.recall(ctx, sub, g)
	}
	if rec := s.failures.active(sub, now); rec != nil {
		r.again(sub, cert, rec.err.RetryAt)
		return
	}
	urgent := cert != nil && cert.notAfter.Sub(now) <= urgentLeft(cert)
	if err != nil && !urgent {
		r.again(sub, cert, now.Add(jitter(retryRenewal)))
		return
	}
	if err := r.issue(ctx, sub, cert, g, urgent); err != nil && ctx.Err() == nil {
		r.again(sub, cert, s.retryAfterFailure(sub))
	}
}

// issue has the certificate issued unless somebody else did meanwhile. Success
// schedules the next renewal itself.
func (r *renewals) issue(ctx context.Context, sub subject, cert *certificate, g grant, urgent bool) error {
	s := r.s
	req := issueRequest{sub: sub, grant: g, reason: "renewal", priority: background}
	if cert == nil {
		req.reason = "Start"
	}
	if urgent {
		req.priority = urgentRenewal
	}
	call, _, err := s.begin(req, func() error {
		if s.memory.current(sub) != cert {
			return errRenewed
		}
		return s.mayIssue(req)
	})
	if err == errRenewed {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = call.await(ctx, nil)
	return err
}

// again schedules the next look at sub: at t, or when cert ends if that is
// sooner, so that its end is reported when it comes.
func (r *renewals) again(sub subject, cert *certificate, t time.Time) {
	if cert != nil && cert.usable(r.s.now()) {
		t = earlier(t, cert.notAfter.Add(time.Nanosecond))
	}
	r.at(sub, t)
}

// reportExpiry reports once that a certificate has run out.
func (r *renewals) reportExpiry(cert *certificate, now time.Time) {
	if cert == nil || cert.usable(now) || !r.firstReport(cert) {
		return
	}
	s, e := r.s, Event{Kind: EventExpired, Host: cert.subject.host(), KeyType: cert.subject.keyType.String(), NotAfter: cert.notAfter}
	if rec := s.failures.last(cert.subject); rec != nil {
		e.RetryAt, e.Err = rec.err.RetryAt, rec.err
	} else if until, _, cause := s.issuer.breaker.state(); cause != nil {
		e.RetryAt, e.Err = until, cause
	}
	s.audit.emit(e)
}

func (r *renewals) firstReport(cert *certificate) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items[cert.subject]
	if it == nil || it.expired.Equal(cert.notAfter) {
		return false
	}
	it.expired = cert.notAfter
	return true
}

// errRenewed: somebody else renewed the certificate meanwhile.
var errRenewed = errors.New("certmgr: renewed already")

// urgentLeft is what is left of a lifetime when a renewal goes first.
func urgentLeft(c *certificate) time.Duration { return c.notAfter.Sub(c.notBefore) / 6 }

// permitted asks allowlist and policy again. A refusal ends the host's
// service; a policy that cannot decide changes nothing.
func (r *renewals) permitted(ctx context.Context, host string) (grant, bool) {
	s := r.s
	g, refused, err := s.permit(ctx, host)
	switch {
	case refused:
		s.dropHost(host, err)
		return g, false
	case err != nil && errors.Is(err, ErrClosed):
		return g, false
	case err != nil:
		s.policy.report(host, err)
		return grant{standing: vetted}, true
	}
	return g, true
}

// dueHeap is a heap by time; see container/heap.
type dueHeap []*dueItem

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *dueHeap) Push(x any) {
	it := x.(*dueItem)
	it.index = len(*h)
	*h = append(*h, it)
}
func (h *dueHeap) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	it.index = -1
	return it
}
