package certmgr

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"

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
	machine string // this machine's name in the record

	read  atomic.Bool  // the record was read
	saved atomic.Int64 // the end of the backoff in the record, in Unix nanoseconds; 0 if there is none
}

// save writes the breaker's state if it is open, and deletes it once it is
// closed again. It does not wait for that.
func (b *breakerStore) save() {
	until, failures, cause := b.breaker.state()
	switch {
	case account.IsUnavailable(cause): // not the CA's fault
	case cause != nil:
		if b.saved.Swap(until.UnixNano()) == until.UnixNano() {
			return
		}
		rec := failureRecord{
			CA:       b.dir,
			Machine:  b.machine,
			Attempts: failures,
			Time:     b.now().UTC(),
			RetryAt:  until.UTC(),
			Cause:    text.OneLine(text.Of(cause), text.MaxError),
		}
		if problems := text.Problems(cause); len(problems) > 0 {
			rec.Problem, rec.Status = problems[0].ProblemType, problems[0].StatusCode
		}
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
	until := pace.Earlier(rec.RetryAt, pace.Earlier(rec.Time, now).Add(maxForeign))
	if until.After(now) {
		until = now.Add(min(until.Sub(now), maxForeign))
		b.saved.Store(until.UnixNano())
		b.breaker.restore(rec.Attempts, until, rec.cause())
	}
}
