package certmgr

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/account"
	"github.com/nostall/nostall/internal/pace"
)

// breakerCacheKey is the key of the breaker's state in the Cache, for a restart
// and for other machines. It is a failureRecord without a host.
const breakerCacheKey = "acme_ca+failure"

// breakerStore stores the breaker's state in the Cache.
type breakerStore struct {
	*env
	breaker *breaker
	store   *store
	machine string // this machine's name in the record

	read   atomic.Bool  // the record was read
	saved  atomic.Int64 // the end of the wait in the record, in Unix nanoseconds; 0 if there is none
	orders atomic.Int64 // the failed orders in the record
}

// minSaved is the shortest wait after a probe that is saved.
const minSaved = 20 * time.Second

// save writes the outage if there is one, and deletes it once it is over. It
// does not wait for that. The short waits after probes are not worth a write.
func (b *breakerStore) save() {
	o := b.breaker.state()
	switch {
	case account.IsUnavailable(o.cause): // not the CA's fault
	case o.failures > 0:
		id := o.wait.Until.UnixNano()
		if last := b.saved.Load(); last == id || last != 0 && o.wait.Until.Sub(b.now()) < minSaved && o.orders == int(b.orders.Load()) {
			return
		}
		b.saved.Store(id)
		b.orders.Store(int64(o.orders))
		rec := failureRecord{
			CA:       b.dir,
			Machine:  b.machine,
			Attempts: o.failures,
			Orders:   o.orders,
			Since:    o.since.UTC(),
			Time:     b.now().UTC(),
			RetryAt:  o.wait.Until.UTC(),
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

// restore reads the CA's failures from the Cache, once. Like every record of
// another process they count for at most maxForeign.
func (b *breakerStore) restore(ctx context.Context) {
	if b.read.Load() {
		return
	}
	data, err := b.store.get(ctx, breakerCacheKey)
	if err != nil && !errors.Is(err, ErrCacheMiss) {
		return // and try again before the next attempt
	}
	if b.read.Swap(true) || err != nil {
		return
	}
	var rec failureRecord
	if json.Unmarshal(data, &rec) != nil || rec.CA != b.dir {
		return
	}
	now := b.now()
	failed := pace.Earlier(rec.Time, now)
	if !now.Before(failed.Add(maxForeign)) {
		return // too old to count
	}
	until := pace.Earlier(rec.RetryAt, failed.Add(maxForeign))
	b.saved.Store(until.UnixNano())
	b.orders.Store(int64(rec.Orders))
	since := failed
	if !rec.Since.IsZero() {
		since = pace.Earlier(rec.Since, failed)
	}
	b.breaker.restore(outage{
		since:    since,
		failures: max(1, rec.Attempts),
		orders:   max(1, rec.Orders),
		wait:     pace.Wait{From: now, Until: until},
		cause:    rec.cause(),
	})
}
