package certmgr

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/capped"
)

// failure is what is remembered of the last failed issuance for a host.
type failure struct {
	err      *IssuanceError
	account  string
	machine  string
	trust    trust
	since    time.Time // the first failure in the row
	lastRead time.Time // when the cache was last read again for a visitor
	foreign  bool      // read from the Cache: another process, or before a restart
	clockOff bool      // the certificate is there, but the local clock calls it expired
}

// failures remembers what failed, why, and when it may be tried again.
type failures struct {
	mu      sync.Mutex
	records capped.Map[failureKey, *failure]
	count   atomic.Int64 // of records
}

// counted brings count up to date. f.mu is held.
func (f *failures) counted() { f.count.Store(int64(f.records.Len())) }

const (
	// maxFailures bounds the records: a stranger's names could fill them.
	maxFailures = 10_000

	// maxForeign is how long the record of another process holds a host back:
	// one machine behind a firewall must not poison a fleet, nor a restart
	// after a repair wait for a day.
	maxForeign = 10 * time.Minute

	// rereadEvery is how often a visitor of a host that is backed off, or in
	// flight, has the cache read again: another machine may have succeeded.
	rereadEvery = 10 * time.Second
)

func newFailures() *failures {
	return &failures{records: capped.Map[failureKey, *failure]{Max: maxFailures}}
}

// active returns the failure that holds sub back at now, or nil.
func (f *failures) active(sub subject, now time.Time) *failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	if rec := f.find(sub); rec != nil && now.Before(rec.err.RetryAt) {
		return rec
	}
	return nil
}

// last returns the last failure of sub whether it still holds it back or not.
func (f *failures) last(sub subject) *failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.find(sub)
}

// find returns the record for sub that holds it back longer. f.mu is held.
func (f *failures) find(sub subject) *failure {
	own, _ := f.records.Get(failureKey{sub.host(), ownScope(sub)})
	both, _ := f.records.Get(failureKey{sub.host(), scopeHost})
	if own == nil || both != nil && both.err.RetryAt.After(own.err.RetryAt) {
		return both
	}
	return own
}

// put remembers a failure of sub's. It returns what it dropped to make room, and
// whether it dropped anything.
func (f *failures) put(sub subject, rec *failure, now time.Time) (evicted failureKey, dropped bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := failureKeyOf(sub, rec.err.Stage)
	evicted, dropped = f.records.Put(key, rec, func(a, b *failure) bool { return a.worth(now) < b.worth(now) })
	f.counted()
	return evicted, dropped
}

// uses reports whether a record is here that is kept under key in the Cache: there
// is one entry for a host's failed validation and for its ECDSA certificate.
func (f *failures) uses(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	host, _, _ := strings.Cut(key, "+")
	for sc := range scopes {
		k := failureKey{host, sc}
		if _, ok := f.records.Get(k); ok && k.cacheKey() == key {
			return true
		}
	}
	return false
}

// worth ranks what makes room first: a record that holds nothing back any more, then
// that of an untrusted host, then any.
func (rec *failure) worth(now time.Time) int {
	switch {
	case !now.Before(rec.err.RetryAt):
		return 0
	case rec.trust == untrusted:
		return 1
	}
	return 2
}

// forget drops what is known of sub's failures and reports whether there was
// anything.
func (f *failures) forget(sub subject) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.counted()
	known := f.find(sub) != nil
	f.records.Delete(failureKey{sub.host(), ownScope(sub)})
	f.records.Delete(failureKey{sub.host(), scopeHost})
	return known
}

// forgetHost drops a host's records of all key types.
func (f *failures) forgetHost(host string) {
	if f.count.Load() == 0 {
		return // the usual case, for the sake of what scanners cost
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.counted()
	for sc := range scopes {
		f.records.Delete(failureKey{host, sc})
	}
}

// shorten lets what is known of the hosts that match hold them back no longer
// than another process's record would.
func (f *failures) shorten(match func(host string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, rec := range f.records.All() {
		if limit := rec.err.Time.Add(maxForeign); rec.err.RetryAt.After(limit) && match(key.host) {
			short, e := *rec, *rec.err
			e.RetryAt = limit
			short.err = &e
			f.records.Put(key, &short, nil)
		}
	}
}

// clockWentBack moves records that were made by a clock that was ahead: they hold
// back as long as they would have, from now on.
func (f *failures) clockWentBack(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, rec := range f.records.All() {
		if ahead := rec.err.Time.Sub(now); ahead > time.Minute {
			moved, e := *rec, *rec.err
			e.Time, e.RetryAt = now, e.RetryAt.Add(-ahead)
			moved.err = &e
			f.records.Put(key, &moved, nil)
		}
	}
}

// mayRead reports whether a visitor may have the cache read again, and counts
// it as done.
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
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, rec := range f.records.All() {
		yield(key.host, rec, key.scope == scopeHost)
	}
}
