package certmgr

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/account"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

// breakerCacheKey is the key of the breaker's state in the Cache, for a restart
// and for other machines. It is a failureRecord without a host.
const breakerCacheKey = "acme_ca+failure"

// breakerStore stores the breaker's state in the Cache.
type breakerStore struct {
	*env
	breaker *breaker
	store   *store
	self    origin // of the records of this process, without settings
	began   time.Time

	read   atomic.Bool                 // the record was read
	readAt atomic.Int64                // when a fleet's was last, by the monotonic clock
	saved  atomic.Int64                // the end of the wait in the record, in Unix nanoseconds; 0 if there is none
	orders atomic.Int64                // the failed orders in the record
	ahead  atomic.Int64                // the time of the last record by a clock that is ahead, likewise
	spent  atomic.Pointer[[]time.Time] // the extra probes that restarts have earned, or nil
}

const (
	// minSaved is the shortest wait after a probe that is saved. In a fleet all are:
	// of those machines that wait, one probes.
	minSaved = 20 * time.Second

	// rereadBreaker is the shortest time between two reads of the record.
	rereadBreaker = 2 * time.Second
)

// save writes the outage if there is one, and deletes it once it is over. It
// does not wait for that. The short waits after probes are not worth a write.
func (b *breakerStore) save() {
	o := b.breaker.state()
	switch {
	case o.noAccount && len(text.Problems(o.cause)) == 0: // the CA was not asked
	case o.failures > 0 && o.isLocal() && b.settings.isFleet(): // other machines may reach it
	case o.failures > 0:
		id := o.wait.Until.UnixNano()
		if last := b.saved.Load(); last == id || last != 0 && b.isShort(o) {
			return
		}
		b.saved.Store(id)
		b.orders.Store(int64(o.orders))
		rec := failureRecord{
			CA:       b.dir,
			Machine:  b.self.machine,
			Process:  b.self.process,
			Settings: b.settings.hash(),
			Attempts: o.failures,
			Orders:   o.orders,
			Since:    o.since.UTC(),
			Time:     b.now().UTC(),
			RetryAt:  o.wait.Until.UTC(),

			NoAccount: o.noAccount,
		}
		if o.retryAfter > 0 {
			rec.Asked = rec.RetryAt
		}
		if spent := b.spent.Load(); spent != nil {
			rec.Extra = extra{spent: *spent}.recent(b.now())
		}
		rec.setCause(o.cause)
		data, err := json.Marshal(rec)
		if err != nil {
			return
		}
		b.tasks.Go(func(ctx context.Context) { b.store.put(context.WithoutCancel(ctx), breakerCacheKey, data) })
	case b.saved.Swap(0) != 0:
		b.tasks.Go(func(ctx context.Context) { b.store.delete(context.WithoutCancel(ctx), breakerCacheKey) })
	}
}

// isShort reports whether an outage has only got another short wait since it was
// last saved.
func (b *breakerStore) isShort(o outage) bool {
	return o.wait.Until.Sub(b.now()) < minSaved && o.orders == int(b.orders.Load()) && !b.settings.isFleet()
}

// mayRead reports whether the record is to be read: once, and in a fleet again and
// again, as what the CA told another machine holds for this one.
func (b *breakerStore) mayRead() bool {
	if !b.read.Load() {
		return true
	}
	now, last := int64(b.ran()), b.readAt.Load()
	return b.settings.isFleet() && now-last >= int64(rereadBreaker) && b.readAt.CompareAndSwap(last, now)
}

// restore reads the CA's failures from the Cache: once, or in a fleet before each
// order and each probe. Another process that is alive keeps this one waiting for at
// most maxForeign, unless the CA asked for the wait, or they are a fleet: then the
// record is of what the CA said.
func (b *breakerStore) restore(ctx context.Context) {
	if !b.mayRead() {
		return
	}
	data, err := b.store.get(ctx, breakerCacheKey)
	if err != nil && !errors.Is(err, ErrCacheMiss) {
		return // and try again before the next attempt
	}
	isFleet := b.settings.isFleet()
	again := b.read.Swap(true)
	if again && !isFleet || err != nil {
		return
	}
	var rec failureRecord
	if err := decodeRecord(data, maxRecord, &rec); err != nil {
		b.reports.badRecord(breakerCacheKey, err)
		return
	}
	if rec.CA != b.dir || again && rec.Process == b.self.process {
		return
	}
	now := b.now()
	if at := rec.Time.UnixNano(); rec.Time.After(now) && b.ahead.Swap(at) == at {
		return // its wait has begun when it was first read
	}
	rec = rec.by(now)
	spent := extra{spent: rec.Extra[max(0, len(rec.Extra)-maxExtraSettings):]}.recent(now)
	b.spent.Store(&spent)
	failed := rec.Time
	until := pace.Earlier(rec.RetryAt, failed.Add(maxRestored))
	before := origin{rec.Machine, rec.Process, rec.Settings, rec.Local}.precedes(b.self, rec.Time, b.began)
	if !before && rec.Asked.IsZero() && !isFleet {
		until = pace.Earlier(until, failed.Add(maxForeign))
	}
	if !now.Before(pace.Later(until, failed).Add(maxForeign)) {
		return // too old to count
	}
	if until.After(now) && !again && b.earns(ctx, rec, before, now) {
		until = now
	}
	b.saved.Store(until.UnixNano())
	b.orders.Store(int64(rec.Orders))
	cause := rec.cause()
	if rec.NoAccount {
		cause = account.Recorded(cause)
	}
	since := failed
	if !rec.Since.IsZero() {
		since = pace.Earlier(rec.Since, failed)
	}
	b.breaker.restore(outage{
		since:    since,
		failures: max(1, rec.Attempts),
		orders:   max(1, rec.Orders),
		wait:     pace.Wait{From: now, Until: until},
		finding:  findingOf(cause),
	})
}

// earns reports whether the start of this process earns a probe before the end
// of the wait, as it earns hosts an attempt (see health.restored), and records
// it.
func (b *breakerStore) earns(ctx context.Context, rec failureRecord, before bool, now time.Time) bool {
	limit := 0
	switch {
	case rec.Settings != "" && rec.Settings != b.settings.hash():
		limit = maxExtraSettings
	case before && rec.Asked.IsZero():
		limit = maxExtra
	}
	spent := *b.spent.Load()
	if len(spent) >= limit {
		return false
	}
	spent = append(spent, now)
	b.spent.Store(&spent)
	rec.Extra = spent
	data, err := json.Marshal(rec)
	return err == nil && b.store.put(ctx, breakerCacheKey, data) == nil
}

// restore opens the breaker with what another process recorded of an outage, or
// this host before a restart. If it is open, the longer wait holds.
func (b *breaker) restore(o outage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := &b.out; now.failures > 0 {
		if !now.trying && o.wait.Until.After(now.wait.Until) {
			now.wait, now.finding, now.passed = o.wait, o.finding, time.Time{}
		}
		return
	}
	b.out = o
	b.tell("", "recorded in the cache")
}
