package certmgr

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/renewal"
)

// A host has certificates of both key types if a client came that cannot verify
// the preferred one, and one that can. One that no client needed for as long as
// it lasts is not renewed. The preferred one is what a client needs that takes it.

// letsExpire reports whether a certificate that is due is not renewed. If it has
// expired, it takes it out of service.
func (r *renewals) letsExpire(ctx context.Context, cert *certificate, g grant) bool {
	sub := cert.subject
	if r.isReplacement(sub) || !r.isUnneeded(ctx, cert) || !r.hasOther(ctx, sub, g) {
		return false
	}
	if !cert.usable(r.now()) {
		r.memory.retire(cert)
		r.schedule.dropUnserved(sub)
		return true
	}
	if r.schedule.letExpire(cert) {
		e := certEvent(audit.RenewalSkipped, cert)
		e.Reason = fmt.Sprintf("no client needed %s in the last %.1f days", sub.alg, lifetimeOf(cert).Hours()/24)
		r.audit.Emit(e)
	}
	if !r.isUnneeded(ctx, cert) { // a client came meanwhile
		r.needed(sub)
	}
	return true
}

// isUnneeded reports whether no client needed a certificate's key type for as
// long as it lasts. Of two that nobody needed the preferred one
// stays.
func (r *renewals) isUnneeded(ctx context.Context, cert *certificate) bool {
	if !r.visits.await(ctx) {
		return false
	}
	now := r.now()
	alg := cert.subject.alg
	r.visits.followSteps(now)
	since := now.Add(-lifetimeOf(cert)).Unix()
	needed := func(alg bundle.Algorithm) bool {
		return slices.ContainsFunc(cert.hosts(), func(host string) bool { return r.lastNeeded(host, alg) > since })
	}
	return !needed(alg) && (alg != r.preferred(cert.subject.host()).alg || needed(1-alg))
}

// hasOther reports whether the host has a valid certificate of the other key
// type. After a restart, that may be in the Cache alone.
func (r *renewals) hasOther(ctx context.Context, sub subject, g grant) bool {
	sub.alg = 1 - sub.alg
	other := r.memory.current(sub)
	if other == nil {
		other, _ = r.loader.read(ctx, sub, g, quietly)
	}
	return other != nil && other.usable(r.now())
}

func lifetimeOf(c *certificate) time.Duration { return c.notAfter.Sub(c.notBefore) }

// lastNeeded returns when a client last may have needed a key type of a host, in
// Unix seconds. What came before a host was watched is not known: for entries of
// the list that may be long before the start, and for others it is when the
// certificate came into memory.
func (r *renewals) lastNeeded(host string, alg bundle.Algorithm) int64 {
	needed, since, watched := r.visits.lastNeeded(host, alg)
	if r.settings.trustOf(host) == listed {
		if !watched {
			return r.now().Unix()
		}
		return max(needed, since)
	}
	if e := r.memory.hosts.Get(host); e != nil {
		needed = max(needed, e.visited[alg].Load(), e.since[alg].Unix())
	}
	return needed
}

// lastNeeded returns when a client last needed a key type of a host, 0 if never,
// and since when the host is watched, both in Unix seconds. What the Cache has are
// days, of which the end counts.
func (v *visits) lastNeeded(host string, alg bundle.Algorithm) (needed, since int64, watched bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := v.hosts.Get(host)
	if known == nil {
		return 0, 0, false
	}
	needed = known.needed[alg].Load()
	if needed%daySeconds == 0 && needed != 0 {
		needed += daySeconds - 1
	}
	return needed, known.since, true
}

// await waits until it is known what the Cache says of visits.
func (v *visits) await(ctx context.Context) (ok bool) {
	v.began()
	select {
	case <-v.restored:
		return true
	case <-ctx.Done():
		return false
	}
}

// letExpire makes a certificate due when it has expired, and reports whether
// that is news.
func (r *schedule) letExpire(cert *certificate) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items.Get(cert.subject)
	if it == nil || r.memory.current(cert.subject) != cert {
		return false
	}
	news, it.unneeded = !it.unneeded, true
	r.agendas[agendaAsk].Cancel(&it.ask)
	r.setRenew(it, agendaRenew, cert.notAfter.Add(time.Second))
	return news
}

// needed makes a certificate due again that letExpire has put off.
func (r *renewals) needed(sub subject) {
	s := r.schedule
	it := s.items.Get(sub)
	if it == nil || !it.shown.isUnneeded() {
		return // most handshakes: without the lock
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !it.unneeded || s.items.Get(sub) != it {
		return
	}
	it.unneeded = false
	s.setRenew(it, agendaRenew, it.plan.Due())
	if it.plan.CertID() != "" {
		s.setAsk(it, r.now().Add(renewal.FirstAsk()))
	}
}
