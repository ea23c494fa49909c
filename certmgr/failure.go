package certmgr

import (
	"cmp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/pace"
)

// failure is the record of the last failed issuance for a host.
type failure struct {
	err      *IssuanceError
	account  string
	by       origin
	trust    trust
	since    time.Time // the first of the consecutive failures
	lastRead time.Time // when a handshake last triggered a cache read
	asked    time.Time // the CA wants no attempt before, or zero
	blame    blame
	extra    extra
	clockOff bool // there is a certificate, but it is expired by the local clock
	second   bool // of a second certificate: the host's other one does not back off for that
	dropped  bool // with its host, which was no longer allowed; failures.mu guards it
}

// blame counts the consecutive failures of a host by whose they were: those of
// the CA do not make the host back off for longer, nor the other way round.
type blame struct {
	host    int
	ca      int       // since the last of the host's
	caSince time.Time // the first of these
}

// after returns the counts after one more failure.
func (b blame) after(what trouble, now time.Time) blame {
	if what != troubleOwn {
		return blame{host: b.host + 1}
	}
	if b.ca == 0 {
		b.caSince = now
	}
	b.ca++
	return b
}

// wait returns how long the host backs off.
func (rec *failure) wait() pace.Wait { return pace.Wait{From: rec.err.Time, Until: rec.err.RetryAt} }

// failures records what failed, why, and when to retry.
type failures struct {
	mu       sync.Mutex
	records  capped.Map[failureKey, *failure]
	relisted capped.Map[string, time.Time] // when an entry was last added to the list, since the start
	attempts *attempts
	count    atomic.Int64 // of records
}

// counted updates count. f.mu is held.
func (f *failures) counted() { f.count.Store(int64(f.records.Len())) }

const (
	// maxFailures bounds the records of hosts that Hosts has by their exact
	// names, and maxStrangersFailures those of others, whose names a stranger
	// can make up without end. A record has up to 16 KB of a CA's texts.
	maxFailures          = 10_000
	maxStrangersFailures = 3_000

	// maxRelisted bounds the entries of which it is known when they were added.
	maxRelisted = 10_000

	// maxForeign is how long another machine's failure makes a host back off:
	// one machine behind a firewall must not block a fleet.
	maxForeign = 10 * time.Minute

	// rereadEvery is how often handshakes for a host that backs off or is in
	// flight trigger another cache read: another machine may have succeeded.
	rereadEvery = 10 * time.Second
)

func newFailures() *failures {
	return &failures{
		records: capped.Map[failureKey, *failure]{
			Max:      maxFailures,
			IsMinor:  func(rec *failure) bool { return rec.trust.isStrangers() },
			MaxMinor: maxStrangersFailures,
		},
		relisted: capped.Map[string, time.Time]{Max: maxRelisted},
		attempts: newAttempts(),
	}
}

// active returns the failure that makes sub back off at now, or nil.
func (f *failures) active(sub subject, now time.Time) *failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	rec := f.find(sub)
	if rec != nil && rec.wait() != rec.wait().At(now) { // the others follow with clockWentBack
		for _, sc := range []scope{scopeHost, ownScope(sub)} {
			f.replace(failureKey{sub.id(), sc}, func(rec *failure) *failure { return rec.followClock(now) })
		}
		rec = f.find(sub)
	}
	if rec == nil || rec.wait().IsOver(now) {
		return nil
	}
	return rec
}

// last returns the last failure of sub, even if its backoff is over.
func (f *failures) last(sub subject) *failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.find(sub)
}

// find returns the record for sub with the longer backoff. f.mu is held.
func (f *failures) find(sub subject) *failure {
	own, _ := f.records.Get(failureKey{sub.id(), ownScope(sub)})
	both, _ := f.records.Get(failureKey{sub.id(), scopeHost})
	if own == nil || both != nil && both.err.RetryAt.After(own.err.RetryAt) {
		return both
	}
	return own
}

// put records a failure: of the host if it is about the host, otherwise of the
// subject.
//
// It returns the key of the record that it evicted, and whether it evicted one.
func (f *failures) put(sub subject, rec *failure, now time.Time) (evicted failureKey, dropped bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := rec.key(sub)
	evicted, dropped = f.records.Put(key, rec, func(a, b *failure) bool { return a.isWorthLess(b, now) })
	f.counted()
	return evicted, dropped
}

// uses reports whether a record is here whose entry in the Cache is that of key:
// there is one entry for a host's failed validation and for its ECDSA
// certificate.
func (f *failures) uses(key failureKey) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for sc := range scopes {
		k := failureKey{key.host, sc}
		if _, ok := f.records.Get(k); ok && k.cacheKey() == key.cacheKey() {
			return true
		}
	}
	return false
}

// worth ranks records for eviction, lowest first: those whose backoff is over,
// then those of untrusted hosts, then all others.
func (rec *failure) worth(now time.Time) int {
	switch {
	case rec.wait().IsOver(now):
		return 0
	case rec.trust == untrusted:
		return 1
	}
	return 2
}

// isWorthLess reports whether rec makes way before other: of two of the same
// worth, that whose backoff ends first. So new names do not evict those that
// have failed for long.
func (rec *failure) isWorthLess(other *failure, now time.Time) bool {
	return cmp.Or(cmp.Compare(rec.worth(now), other.worth(now)), rec.err.RetryAt.Compare(other.err.RetryAt)) < 0
}

// forget removes sub's failures and reports whether there were any.
func (f *failures) forget(sub subject) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.counted()
	known := f.find(sub) != nil
	f.records.Delete(failureKey{sub.id(), ownScope(sub)})
	f.records.Delete(failureKey{sub.id(), scopeHost})
	return known
}

// forgetHost removes a host's records for all key types. Its recent attempts
// count instead.
func (f *failures) forgetHost(host string) {
	f.attempts.forgetOutcomes(host)
	if f.count.Load() == 0 {
		return // the usual case; keeps scanners cheap
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.counted()
	for sc := range scopes {
		key := failureKey{host, sc}
		if rec, ok := f.records.Get(key); ok {
			rec.dropped = true
		}
		f.records.Delete(key)
	}
}

// counts reports whether rec is still sub's last failure, or was when its host
// was dropped: the host may come back.
func (f *failures) counts(sub subject, rec *failure) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return rec.dropped || f.find(sub) == rec
}

// relist notes that entries were added to the list, again or for the first
// time. That earns their hosts an attempt.
func (f *failures) relist(entries []string, now time.Time) {
	for _, entry := range entries[:min(len(entries), maxRelisted)] {
		f.relistEntry(entry, now)
	}
	if f.count.Load() == 0 {
		return
	}
	named := hosts.Collect(entries)
	f.replaceEach(func(host string, rec *failure) *failure {
		if name, _ := hostOfID(host); named.Match(name) == hosts.None {
			return rec
		}
		return rec.withExtra(whyListed, maxExtra, now)
	})
}

func (f *failures) relistEntry(entry string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relisted.Put(entry, now, time.Time.Before)
}

// listedSince reports whether an entry for host was added to the list since t.
func (f *failures) listedSince(host string, t time.Time) bool {
	_, parent, _ := strings.Cut(host, ".")
	f.mu.Lock()
	defer f.mu.Unlock()
	exact, _ := f.relisted.Get(host)
	wildcard, _ := f.relisted.Get("*." + parent)
	return exact.After(t) || wildcard.After(t)
}

// release ends the backoff of the hosts whose last failure was the CA's, since
// that works again, unless the CA has asked for a wait.
func (f *failures) release(now time.Time) {
	f.replaceEach(func(_ string, rec *failure) *failure {
		at := pace.Later(now, rec.asked)
		if rec.blame.ca == 0 || rec.clockOff || !rec.err.RetryAt.After(at) {
			return rec
		}
		free := rec.retryAt(at)
		free.extra = rec.extra.carried()
		return free
	})
}

// clockWentBack corrects records made by a clock that was ahead.
func (f *failures) clockWentBack(now time.Time) {
	f.replaceEach(func(_ string, rec *failure) *failure { return rec.followClock(now) })
}

// followClock returns what becomes of rec if the clock was set back: it may be
// rec itself.
func (rec *failure) followClock(now time.Time) *failure {
	w := rec.wait().At(now)
	if w == rec.wait() {
		return rec
	}
	moved, e := *rec, *rec.err
	e.Time, e.RetryAt = w.From, w.Until
	moved.err = &e
	if !rec.extra.until.IsZero() {
		moved.extra.until = rec.extra.until.Add(w.Until.Sub(rec.err.RetryAt))
	}
	return &moved
}

// mayRead reports whether a handshake may trigger another cache read, and
// records that it does.
func (f *failures) mayRead(rec *failure, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if since := now.Sub(rec.lastRead); since >= 0 && since < rereadEvery {
		return false
	}
	rec.lastRead = now
	return true
}

// all calls yield for every record; both says that it holds for both key types.
func (f *failures) all(yield func(host string, rec *failure, both bool)) {
	for _, key := range f.keys() {
		f.mu.Lock()
		rec, ok := f.records.Get(key)
		f.mu.Unlock()
		if ok {
			yield(key.host, rec, key.scope == scopeHost)
		}
	}
}

// replaceEach replaces every record by what becomes of it, which may be itself.
func (f *failures) replaceEach(become func(host string, rec *failure) *failure) {
	for _, key := range f.keys() {
		f.mu.Lock()
		f.replace(key, func(rec *failure) *failure { return become(key.host, rec) })
		f.mu.Unlock()
	}
}

// replace replaces the record of a key, if there is one. f.mu is held.
func (f *failures) replace(key failureKey, become func(*failure) *failure) {
	if rec, ok := f.records.Get(key); ok {
		f.records.Put(key, become(rec), nil)
	}
}

// keys returns the keys of all records. Those who look at all records do so one
// by one: handshakes need the lock.
func (f *failures) keys() []failureKey {
	f.mu.Lock()
	defer f.mu.Unlock()
	keys := make([]failureKey, 0, f.records.Len())
	for key := range f.records.All() {
		keys = append(keys, key)
	}
	return keys
}
