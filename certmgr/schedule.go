package certmgr

import (
	"slices"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/renewal"
	"github.com/nostall/nostall/internal/table"
)

// schedule knows when each certificate in memory is due and when to ask the CA
// about it. It holds subjects, not certificates: these are looked up when due.
// See dispatcher for the work.
type schedule struct {
	*env
	memory    *memory
	progress  *progress
	startPace *startPace
	changed   func() // called for each new appointment, with mu held; set before there is one

	items *table.Table[subject, renewalItem] // walked without a lock

	mu        sync.Mutex // for changes of items, and of each of them
	agendas   agendas
	nextProbe time.Duration // not before, by the monotonic clock
}

// renewalItem is one subject. schedule.mu guards it, except for shown.
type renewalItem struct {
	sub  subject
	kind agendaKind // of renew: agendaRenew, agendaRetry or agendaProbe
	owed bool       // a first issuance wanted even without a running Start

	// unneeded: no client needs the certificate's key type. It is not renewed,
	// and due when it has expired.
	unneeded bool

	place place // of a first issuance in the lanes of startPace
	renew renewal.Appointment[*renewalItem]
	ask   renewal.Appointment[*renewalItem] // in agendaAsk
	plan  renewal.Plan
	late  renewal.Lateness
	seen  *seenHere // by the probe before a renewal that is due, or nil

	shown shown // of the fields above; see show

	begun [agendaKinds]time.Time // the last renewal, probe and question, by the monotonic clock
}

const (
	// maxRenewing is how many subjects are processed concurrently. MaxIssuing
	// limits the issuances among them.
	maxRenewing = 64

	// maxAsking is how many questions about renewal may be open at the CA.
	maxAsking = 16

	// retryRenewal is the wait after a renewal that could not begin: the cache
	// cannot be read, or no slot became free.
	retryRenewal = 5 * time.Minute
)

func newSchedule(e *env, m *memory, p *progress, sp *startPace) *schedule {
	r := &schedule{
		env:       e,
		memory:    m,
		progress:  p,
		startPace: sp,
		items:     table.New[subject, renewalItem](),
		changed:   func() {},
	}
	r.agendas[agendaRenew].Limit = maxRenewing
	r.agendas[agendaRetry].Limit = maxRenewing / 2
	r.agendas[agendaProbe].Limit = maxProbing
	r.agendas[agendaAsk].Limit = maxAsking
	return r
}

// planIssued schedules a certificate that has just been issued.
func (r *schedule) planIssued(c *certificate) {
	now := r.now()
	p := planFor(c, r.settings.renewBefore)
	p.IssuedAt(now, c.dates())
	r.begin(c, p, now)
}

// planLoaded schedules a certificate that was in the cache; it may be due at
// once.
func (r *schedule) planLoaded(c *certificate) {
	now := r.now()
	p := planFor(c, r.settings.renewBefore)
	if r.authority.distrusts(c) {
		p.ReplaceAt(now)
	}
	r.begin(c, p, now)
}

func planFor(c *certificate, renewBefore time.Duration) renewal.Plan {
	return renewal.NewPlan(c.dates(), acmeclient.CertID(c.leaf), renewBefore)
}

// begin sets the plan for a new certificate, unless it has left memory
// meanwhile: then its host was dropped, or it has a successor with its own
// plan.
func (r *schedule) begin(c *certificate, p renewal.Plan, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.memory.current(c.subject) != c {
		return
	}
	it := r.item(c.subject)
	due := p.Due()
	if !it.plan.IsZero() { // a Cache may return a new certificate at each read, due at once
		due = pace.Later(due, now.Add(renewal.MinInterval))
	}
	it.plan, it.late, it.owed, it.unneeded = p, renewal.Lateness{}, false, false
	r.setRenew(it, agendaRenew, due)
	if p.CertID() == "" {
		r.agendas[agendaAsk].Cancel(&it.ask)
		return
	}
	r.setAsk(it, now.Add(renewal.FirstAsk()))
}

// at sets when sub is tried again after a failure. If it has no certificate,
// one is issued then.
func (r *schedule) at(sub subject, t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.item(sub)
	it.owed = true
	r.setRenew(it, agendaRetry, t)
}

// firstAt is at for a host wanted by a Start, for as long as it is.
func (r *schedule) firstAt(sub subject, t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setRenew(r.item(sub), agendaRetry, t)
}

// isWanted reports whether a first issuance for sub is still wanted.
func (r *schedule) isWanted(sub subject) bool {
	if r.settings.hosts.match(sub.host()) != hosts.Exact {
		return false
	}
	r.mu.Lock()
	it := r.items.Get(sub)
	owed := it != nil && it.owed
	r.mu.Unlock()
	return owed || isStarting(r, sub)
}

// isStarting reports whether a Start waits for a certificate of sub.
func isStarting(r *schedule, sub subject) bool {
	return slices.ContainsFunc(r.members(sub), r.progress.wants)
}

// hasten makes a subject due, if it is to be tried again, and reports whether it
// is.
func (r *schedule) hasten(sub subject) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items.Get(sub)
	if it == nil || it.kind != agendaRetry || !it.renew.IsSet() {
		return false
	}
	r.setRenew(it, agendaRetry, pace.Earlier(it.renew.At(), r.now()))
	return true
}

// first schedules the first issuance for a host that no handshake waits for.
func (r *schedule) first(sub subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kind := agendaRenew
	if r.settings.preflight == preflight.Enforce && !sub.group {
		kind = agendaProbe // names that do not lead here take no turn of startPace
	}
	if it := r.item(sub); !it.renew.IsSet() {
		r.setRenew(it, kind, r.now())
	}
}

// pace reports whether a first issuance may begin now; if not, it is
// rescheduled for when it may.
func (r *schedule) pace(sub subject, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.item(sub)
	if wait := r.startPace.wait(sub.host(), &it.place, r.ran()); wait > 0 {
		r.setRenew(it, agendaRenew, now.Add(wait))
		return false
	}
	return true
}

// item returns the item of sub, creating it if necessary. r.mu is held.
func (r *schedule) item(sub subject) *renewalItem {
	it := r.items.Get(sub)
	if it == nil {
		entry := &table.Item[subject, renewalItem]{Key: sub, Value: renewalItem{sub: sub}}
		it = &entry.Value
		it.renew.Item, it.ask.Item = it, it
		r.items.Put(entry)
	}
	return it
}

// setRenew makes or moves the appointment for a renewal. r.mu is held.
func (r *schedule) setRenew(it *renewalItem, kind agendaKind, t time.Time) {
	r.agendas.setRenew(it, kind, t)
	it.show()
	r.changed()
}

// setAsk makes or moves the appointment for a question. r.mu is held.
func (r *schedule) setAsk(it *renewalItem, t time.Time) {
	r.agendas[agendaAsk].Set(&it.ask, t)
	r.changed()
}

func (r *schedule) drop(sub subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.items.Get(sub); it != nil {
		r.agendas.cancel(it)
		r.items.Delete(sub)
	}
}

// dropUnserved drops a subject unless a certificate of it is in memory: its
// host may be back since it was dropped there.
func (r *schedule) dropUnserved(sub subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.items.Get(sub); it != nil && r.memory.current(sub) == nil {
		r.agendas.cancel(it)
		r.items.Delete(sub)
	}
}

// dropUnplanned drops a subject unless a certificate has turned up for it.
func (r *schedule) dropUnplanned(sub subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.items.Get(sub); it != nil && (it.plan.IsZero() || r.memory.current(sub) == nil) {
		r.agendas.cancel(it)
		r.items.Delete(sub)
	}
}

// clockWentBack replans what was planned by a clock that was ahead: its
// appointments may be days or years away.
func (r *schedule) clockWentBack(now time.Time) {
	for sub := range r.items.All() {
		replan(r, sub, now)
	}
}

// replan is clockWentBack for one subject.
func replan(r *schedule, sub subject, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it, cert := r.items.Get(sub), r.memory.current(sub)
	if it == nil {
		return
	}
	it.unneeded = false
	it.show()
	if cert != nil && it.plan.CertID() != "" {
		r.setAsk(it, now.Add(renewal.FirstAsk()))
	}
	switch {
	case !it.renew.IsSet(): // in progress
	case cert == nil || it.kind == agendaRetry:
		r.setRenew(it, it.kind, pace.Earlier(it.renew.At(), now.Add(pace.Jitter(retryRenewal))))
	default:
		it.plan.ClockWentBack(now, cert.dates())
		r.setRenew(it, agendaRenew, it.plan.Due())
	}
}

// due calls begin for each item that is due, within the limits of its kind,
// until begin reports false. It returns how long until the next item is due.
// begin must not block.
func (r *schedule) due(now time.Time, begin func(agendaKind, *renewalItem) bool) (wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait = maxTimer
	for kind := range agendaKind(agendaKinds) {
		for {
			if left := r.nextProbe - r.ran(); kind == agendaProbe && left > 0 {
				wait = min(wait, left)
				break
			}
			it, left, ok := r.agendas[kind].Next(now)
			if !ok {
				wait = min(wait, left)
				break
			}
			if kind == agendaProbe {
				r.nextProbe = r.ran() + probeEvery
			}
			if !begin(kind, it) {
				return maxTimer
			}
		}
	}
	return wait
}

// done ends the work on an item that was due. If the work set no new date, for
// whatever reason, done schedules a retry, so that no item is lost.
func (r *schedule) done(kind agendaKind, it *renewalItem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.agendas[kind].Done()
	if kind != agendaAsk && !it.renew.IsSet() && r.items.Get(it.sub) == it {
		r.setRenew(it, agendaRetry, r.now().Add(retryRenewal))
	}
	r.changed()
}

// reason returns why sub is renewed now, the CA's page about it, and whether the
// CA suggests it.
func (r *schedule) reason(sub subject) (reason, explanation string, suggested bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items.Get(sub)
	if it == nil {
		return "renewal", "", false
	}
	now := r.now()
	return it.plan.Reason(now), it.plan.Explanation(), it.plan.InWindow(now)
}

// again schedules the next try for sub: at t, or sooner if a report is due
// before.
func (r *schedule) again(sub subject, cert *certificate, t time.Time, cause error) {
	kind := retryKind(cause) // which may call methods of a user's error
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.memory.current(sub) != cert {
		return // another one has its own plan
	}
	it := r.item(sub)
	if cert != nil {
		now := r.now()
		if mark, ok := it.late.Failed(cert.notAfter, cause, now); ok {
			t = pace.Earlier(t, pace.Later(mark, now.Add(renewal.MinInterval)))
		}
	}
	r.setRenew(it, kind, t)
}
