package certmgr

import (
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/table"
)

// visits tracks when clients last asked for allowed hosts and needed which key
// type, when the CA last reached these, and how many of their handshakes were refused. It knows
// nothing of hosts that are not allowed. Entries of the allowlist are under the
// same names; those of wildcards stand for all hosts below.
//
// Readers take no lock, and nothing walks over all hosts with mu held:
// handshakes need it.
type visits struct {
	hosts *table.Table[string, visit]
	list  *hostList
	began func() // called once, at the first visit

	mu       sync.Mutex                 // for changes of hosts
	unlisted capped.Map[string, *visit] // those not on the list by name, which make way for each other

	// changed has an element if the record in the Cache may be outdated: it has
	// the entries of the list, by whole days.
	changed chan struct{} // capacity 1

	// restored is closed once the record in the Cache was read for the first
	// time, or could not be.
	restored    chan struct{}
	setRestored func()

	// onNeeded is called with a key type that a client of a host needs, at most
	// once per visitEvery for each; set before the first use, must not block.
	onNeeded func(host string, alg bundle.Algorithm)

	clock clockWatch // of followClock
}

// visit is the record of one host. Times are Unix seconds; 0 means never.
type visit struct {
	since    int64                           // known since; guarded by visits.mu
	asked    atomic.Int64                    // when a client last asked, to visitEvery
	reached  atomic.Int64                    // when a certificate was last issued here
	needed   [bundle.Algorithms]atomic.Int64 // when a client last needed a key type, to visitEvery
	refused  atomic.Uint64
	fallback atomic.Int64 // when Manager.Fallback was last served, in Unix seconds
	fresh    bool         // added to the list while this process was running; guarded by visits.mu
	waiting  atomic.Int64 // since when it waits for DNS, if it does; perhaps from before a restart
	led      atomic.Bool  // a wait of it has ended: what the Cache has of one is over
}

const (
	// visitEvery is the precision of the last visit: a write for each handshake
	// would make the cores contend.
	visitEvery = time.Hour

	// maxVisits is the largest number of hosts that are not on the list by
	// name. Beyond that the one makes way that clients asked for least lately.
	maxVisits = 10_000

	// maxWatched is the largest number of entries of the list watched before
	// any client asks for them.
	maxWatched = 20_000
)

func newVisits(list *hostList, began func()) *visits {
	restored := make(chan struct{})
	return &visits{
		hosts:       table.New[string, visit](),
		list:        list,
		began:       sync.OnceFunc(began),
		unlisted:    capped.Map[string, *visit]{Max: maxVisits},
		changed:     make(chan struct{}, 1),
		restored:    restored,
		setRestored: sync.OnceFunc(func() { close(restored) }),
		onNeeded:    func(string, bundle.Algorithm) {},
	}
}

// noteAsked records a handshake for an allowed host, of a client that needs a
// key type: ECDSA if it takes that.
func (v *visits) noteAsked(host string, alg bundle.Algorithm, g grant, now time.Time) {
	known, t := v.get(host, g.trust, now), now.Unix()
	if recently(known.needed[alg].Load(), t) {
		return
	}
	news := set(&known.needed[alg], t)
	news = set(&known.asked, t) || news
	recorded := g.trust == listed
	if v.list.match(host) == hosts.Wildcard {
		_, parent, _ := strings.Cut(host, ".")
		news, recorded = set(&v.get("*."+parent, listed, now).asked, t), true
	}
	if news && recorded {
		v.noteChange()
	}
	v.onNeeded(host, alg)
}

// noteReached notes that the CA validated a host here.
func (v *visits) noteReached(host string, g grant, now time.Time) {
	if set(&v.get(host, g.trust, now).reached, now.Unix()) && g.trust == listed {
		v.noteChange()
	}
}

// noteChange notes that the record in the Cache is outdated.
func (v *visits) noteChange() {
	select {
	case v.changed <- struct{}{}:
	default:
	}
}

// set sets a time, and reports whether it was on another day in UTC: then the
// record in the Cache has another one, if it has the entry.
func set(at *atomic.Int64, t int64) (news bool) {
	return at.Swap(t)/daySeconds != t/daySeconds
}

const daySeconds = int64(24 * time.Hour / time.Second)

// recently reports whether a time in Unix seconds needs no update at now. A
// time in the future is from a clock that was ahead.
func recently(t, now int64) bool {
	return t != 0 && now-t >= 0 && now-t < int64(visitEvery/time.Second)
}

// get returns the host's record, creating it if necessary.
func (v *visits) get(host string, t trust, now time.Time) *visit {
	if known := v.hosts.Get(host); known != nil {
		return known
	}
	v.began()
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.add(host, t, now)
}

// add is get with v.mu held.
func (v *visits) add(host string, t trust, now time.Time) *visit {
	if known := v.hosts.Get(host); known != nil {
		return known
	}
	it := &table.Item[string, visit]{Key: host, Value: visit{since: now.Unix()}}
	known := &it.Value
	v.hosts.Put(it)
	if t == listed {
		v.noteChange()
	} else if evicted, full := v.unlisted.Put(host, known, func(a, b *visit) bool { return a.last() < b.last() }); full {
		v.hosts.Delete(evicted)
	}
	return known
}

// last returns when a client last asked, or since when the host is known.
func (known *visit) last() int64 { return max(known.asked.Load(), known.since) }

// watch starts tracking the entries of the list that are not tracked yet.
func (v *visits) watch(entries iter.Seq[string], now time.Time) {
	for entry := range entries {
		if !v.watchEntry(entry, now) {
			return
		}
	}
}

func (v *visits) watchEntry(entry string, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.isFull() {
		return false
	}
	v.add(entry, listed, now)
	return true
}

// isFull reports whether no more entries are watched before a client asks for
// them. v.mu is held.
func (v *visits) isFull() bool { return v.hosts.Len()-v.unlisted.Len() >= maxWatched }

// noteRefused records a refused handshake for a host, if the host is known.
func (v *visits) noteRefused(host string) {
	if known := v.hosts.Get(host); known != nil {
		known.refused.Add(1)
	}
}

// forget removes the record of a host or entry.
func (v *visits) forget(host string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hosts.Delete(host)
	v.unlisted.Delete(host)
}

// of returns when a client last asked for a host, and how many handshakes were
// refused.
func (v *visits) of(host string) (asked time.Time, refused uint64) {
	if known := v.hosts.Get(host); known != nil {
		return fromUnix(known.asked.Load()), known.refused.Load()
	}
	return time.Time{}, 0
}

// sightings returns the times of an entry of the list.
func (v *visits) sightings(entry string) (s sightings, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := v.hosts.Get(entry)
	if known == nil {
		return sightings{}, false
	}
	return sightings{
		Since:   fromUnix(known.since),
		Asked:   fromUnix(known.asked.Load()),
		Reached: fromUnix(known.reached.Load()),
		ECDSA:   fromUnix(known.needed[bundle.ECDSA].Load()),
		RSA:     fromUnix(known.needed[bundle.RSA].Load()),
		Waiting: fromUnix(known.waiting.Load()),
	}, true
}

// merge merges what others have seen of entries that are on the list.
func (v *visits) merge(others map[string]sightings, now time.Time) {
	for entry, seen := range others {
		if known := v.hosts.Get(entry); known != nil { // else it is not on the list
			v.mergeInto(known, seen, now)
		}
	}
}

func (v *visits) mergeInto(known *visit, seen sightings, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := seen.Since.Unix(); !seen.Since.IsZero() && t < known.since && !known.fresh {
		known.since = t
	}
	if t := seen.Asked.Unix(); !seen.Asked.After(now) && t > known.asked.Load() {
		known.asked.Store(t)
	}
	if t := seen.Reached.Unix(); !seen.Reached.After(now) && t > known.reached.Load() {
		known.reached.Store(t)
	}
	for alg, at := range seen.needed() {
		if t := at.Unix(); !at.After(now) && t > known.needed[alg].Load() {
			known.needed[alg].Store(t)
		}
	}
	known.mergeWaiting(seen, now)
}

// sightings holds when an entry of the list was first watched, last asked for
// and last reached, and when clients last needed each key type. It is stored in
// the Cache.
type sightings struct {
	Since   time.Time `json:"since"`
	Asked   time.Time `json:"asked,omitzero"`
	Reached time.Time `json:"reached,omitzero"`
	ECDSA   time.Time `json:"ecdsa,omitzero"`
	RSA     time.Time `json:"rsa,omitzero"`
	Waiting time.Time `json:"waiting,omitzero"` // since when it waits for DNS
}

// needed returns when clients may last have needed each key type. A record from
// before key types were recorded does not tell.
func (s sightings) needed() (at [bundle.Algorithms]time.Time) {
	if s.ECDSA.IsZero() && s.RSA.IsZero() {
		s.ECDSA, s.RSA = s.Asked, s.Asked
	}
	at[bundle.ECDSA], at[bundle.RSA] = s.ECDSA, s.RSA
	return at
}

func fromUnix(t int64) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(t, 0)
}
