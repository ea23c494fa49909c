package certmgr

import (
	"slices"
	"sync"
	"time"

	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/pace"
)

// The CA is asked for a host's certificate in attempts. One that ends with a
// certificate is not repeated, and one that fails makes the host back off. Others
// leave nothing that would delay the next one: the process ended meanwhile, the
// host left the list, or what is known of the host was forgotten with it. A
// process that crashes again and again, or a list that flaps, would make an
// order each time. Those attempts are counted, whatever ended them.
const (
	// maxAttempts is how many attempts without a known outcome may begin within
	// attemptWindow for a host: as many as Let's Encrypt allows failed
	// validations.
	maxAttempts   = 5
	attemptWindow = time.Hour

	// crashLoop is the age up to which a process writes its attempts to the Cache
	// when they begin. Processes that live longer cannot begin more than
	// maxAttempts within attemptWindow.
	crashLoop = attemptWindow / maxAttempts

	// maxAttemptHosts bounds the hosts whose attempts are counted.
	maxAttemptHosts = 10_000
)

// attempts counts the recent attempts of each host.
type attempts struct {
	mu    sync.Mutex
	hosts capped.Map[string, *hostAttempts]
}

func newAttempts() *attempts {
	return &attempts{hosts: capped.Map[string, *hostAttempts]{Max: maxAttemptHosts}}
}

// attempt is an attempt of the last attemptWindow.
type attempt struct {
	at    time.Time // when it began, by the wall clock
	known bool      // its outcome is: a certificate, or a failure that makes the host back off
}

// hostAttempts holds the recent attempts of a host, for both its key types.
// attempts.mu guards it.
type hostAttempts struct {
	list  []attempt // oldest first
	told  time.Time // the end of the last wait of which there was an event
	saved bool      // the Cache's record of the host names some of them
}

// prune forgets what is over. Attempts by a clock that was ahead count from now.
func (a *hostAttempts) prune(now time.Time) {
	for i := range a.list {
		a.list[i].at = pace.Earlier(a.list[i].at, now)
	}
	a.list = slices.DeleteFunc(a.list, func(one attempt) bool { return now.Sub(one.at) >= attemptWindow })
	if n := len(a.list) - 2*maxAttempts; n > 0 {
		a.list = slices.Delete(a.list, 0, n)
	}
}

// unknown returns when the attempts without a known outcome began.
func (a *hostAttempts) unknown() (began []time.Time) {
	for _, one := range a.list {
		if !one.known {
			began = append(began, one.at)
		}
	}
	return began
}

// latest returns when the last attempt began.
func (a *hostAttempts) latest() time.Time {
	if len(a.list) == 0 {
		return time.Time{}
	}
	return a.list[len(a.list)-1].at
}

// isWorthLess ranks hosts for eviction: those of which the outcome of each attempt
// is known go first, then those whose last attempt is the oldest.
func (a *hostAttempts) isWorthLess(b *hostAttempts) bool {
	if none, nor := len(a.unknown()) == 0, len(b.unknown()) == 0; none != nor {
		return none
	}
	return a.latest().Before(b.latest())
}

// of returns the attempts of a host as of now, or nil. t.mu is held.
func (t *attempts) of(host string, now time.Time) *hostAttempts {
	a, ok := t.hosts.Get(host)
	if ok {
		a.prune(now)
	}
	return a
}

func (t *attempts) add(host string) *hostAttempts {
	a := new(hostAttempts)
	t.hosts.Put(host, a, (*hostAttempts).isWorthLess)
	return a
}

// begin counts an attempt that begins now. If there were too many, it
// returns when the next one may begin, and whether that is yet to be told.
func (t *attempts) begin(host string, now time.Time) (next time.Time, tell bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of(host, now)
	if a == nil {
		a = t.add(host)
	}
	if began := a.unknown(); len(began) >= maxAttempts {
		next = began[len(began)-maxAttempts].Add(attemptWindow)
		tell = !a.told.Equal(next)
		a.told = next
		return next, tell
	}
	a.list = append(a.list, attempt{at: now})
	return time.Time{}, false
}

// end notes the outcome of an attempt that began at a time: a failure
// that makes the host back off.
func (t *attempts) end(host string, began time.Time) {
	t.set(host, began, func(a *hostAttempts, i int) { a.list[i].known = true })
}

// undo forgets an attempt that could not begin.
func (t *attempts) undo(host string, began time.Time) {
	t.set(host, began, func(a *hostAttempts, i int) { a.list = slices.Delete(a.list, i, i+1) })
}

func (t *attempts) set(host string, began time.Time, set func(a *hostAttempts, i int)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.hosts.Get(host)
	if !ok {
		return
	}
	if i := slices.IndexFunc(a.list, func(one attempt) bool { return !one.known && one.at.Equal(began) }); i >= 0 {
		set(a, i)
	}
}

// succeeded notes that an attempt led to a certificate: neither it nor those
// before it count, unless the certificate is forgotten with its host.
func (t *attempts) succeeded(host string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.hosts.Get(host)
	if ok {
		for i := range a.list {
			a.list[i].known = true
		}
		a.told = time.Time{}
	}
}

// isSaved reports whether the Cache's record of a host names some of its attempts.
func (t *attempts) isSaved(host string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.hosts.Get(host)
	return ok && a.saved
}

// hasCut reports whether a host has attempts without a known outcome beside one
// that has just begun.
func (t *attempts) hasCut(host string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.hosts.Get(host)
	return ok && len(a.unknown()) > 1
}

// forgetOutcomes makes a host's attempts count again, since what came of them is
// forgotten.
func (t *attempts) forgetOutcomes(host string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a, ok := t.hosts.Get(host); ok {
		for i := range a.list {
			a.list[i].known = false
		}
	}
}

// toSave returns when the attempts of a host without a known outcome
// began, for its record in the Cache.
func (t *attempts) toSave(host string, now time.Time) []time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of(host, now)
	if a == nil {
		return nil
	}
	began := a.unknown()
	a.saved = len(began) > 0
	return began
}

// restore adds the attempts that a host's record in the Cache names,
// those of this process among them.
func (t *attempts) restore(host string, began []time.Time, now time.Time) {
	if len(began) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of(host, now)
	if a == nil {
		a = t.add(host)
	}
	a.saved = true
	for _, at := range began[max(0, len(began)-maxAttempts):] {
		if !slices.ContainsFunc(a.list, func(one attempt) bool { return one.at.Equal(at) }) {
			a.list = append(a.list, attempt{at: at})
		}
	}
	slices.SortFunc(a.list, func(a, b attempt) int { return a.at.Compare(b.at) })
	a.prune(now)
}
