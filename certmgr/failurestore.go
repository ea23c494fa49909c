package certmgr

import (
	"context"
	"encoding/json"
	"errors"
)

// saveFailure writes a failure's record to the Cache, where a restart and
// other machines find it. Losing it costs one more attempt at worst.
func (is *issuer) saveFailure(ctx context.Context, sub subject, rec *failure) {
	// Anyone can have a policy that allows every host fail for names of their
	// own, without end: those are remembered in memory alone, which has a cap.
	if is.settings.cache == nil || rec.standing == open && is.settings.listed(sub.host()) == notAllowed {
		return
	}
	key, record := newFailureRecord(sub, rec)
	data, err := json.Marshal(record)
	if err != nil {
		return
	}
	if is.failures.last(sub) == rec { // and not overtaken by a success
		is.store.put(ctx, key, data)
	}
}

// remember keeps a failure in memory. What has to make room for it goes from the
// Cache too, so that the cap holds for both.
func (is *issuer) remember(sub subject, rec *failure) {
	evicted, dropped := is.failures.put(sub, rec, is.now())
	if !dropped || is.settings.cache == nil {
		return
	}
	key := evicted.cacheKey()
	is.tasks.Go(func(ctx context.Context) {
		if !is.failures.uses(key) { // by another record, or by one that was made meanwhile
			is.store.delete(context.WithoutCancel(ctx), key)
		}
	})
}

// recall brings into memory what the Cache knows of failures for sub, unless
// this process has failed itself.
func (is *issuer) recall(ctx context.Context, sub subject, g grant) error {
	if is.failures.last(sub) != nil {
		return nil
	}
	saved, err := is.savedFailure(ctx, sub)
	if saved == nil || err != nil {
		return err
	}
	now := is.now()
	saved.standing, saved.lastRead = g.standing, now
	is.remember(sub, saved)
	if now.Before(saved.err.RetryAt) {
		is.audit.emit(Event{Kind: EventBackoffRestored, Host: sub.host(), KeyType: sub.keyType.String(), Attempt: saved.err.Attempt,
			Stage: saved.err.Stage, CA: is.dir, RetryAt: saved.err.RetryAt, Count: saved.err.Attempts, Err: saved.err})
	}
	return nil
}

// savedFailure returns what the Cache knows of failures for sub that this
// process does not: nil if there is nothing. An unreadable cache is an error,
// a damaged record is none.
func (is *issuer) savedFailure(ctx context.Context, sub subject) (*failure, error) {
	var found *failure
	for _, key := range failureCacheKeys(sub) {
		data, err := is.store.get(ctx, key)
		if errors.Is(err, ErrCacheMiss) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var rec failureRecord
		if err := json.Unmarshal(data, &rec); err != nil {
			is.store.reports.report(key, Event{Kind: EventCacheEntryRejected, Host: sub.host(), Reason: key, Err: err})
			continue
		}
		if f := rec.failure(sub, is.machine, is.now()); f != nil && (found == nil || f.err.RetryAt.After(found.err.RetryAt)) {
			found = f
		}
	}
	return found, nil
}

// breakerCacheKey is where the breaker's state is kept for a restart and for
// other machines, as a failureRecord without a host.
const breakerCacheKey = "acme_ca+failure"

// rememberBreaker writes the breaker's state if it is open, and deletes it once
// it is closed again.
func (is *issuer) rememberBreaker() {
	until, failures, cause := is.breaker.state()
	switch {
	case isLocal(cause): // no CA was asked in vain
	case cause != nil:
		if is.breakerSaved.Swap(until.UnixNano()) == until.UnixNano() {
			return
		}
		rec := failureRecord{CA: is.dir, Machine: is.machine, Attempts: failures, Time: is.now().UTC(), RetryAt: until.UTC(),
			Cause: oneLine(textOf(cause), maxErrorText)}
		if problems := acmeProblems(cause); len(problems) > 0 {
			rec.Problem, rec.Status = problems[0].ProblemType, problems[0].StatusCode
		}
		data, err := json.Marshal(rec)
		if err != nil {
			return
		}
		is.tasks.Go(func(ctx context.Context) { is.store.put(context.WithoutCancel(ctx), breakerCacheKey, data) })
	case is.breakerSaved.Swap(0) != 0:
		is.tasks.Go(func(ctx context.Context) { is.store.delete(context.WithoutCancel(ctx), breakerCacheKey) })
	}
}

// recallBreaker reads once what the Cache knows of the CA's failures. Like
// every record of another process it holds back for maxForeign at most.
func (is *issuer) recallBreaker(ctx context.Context) {
	if is.breakerRead.Load() {
		return
	}
	data, err := is.store.get(ctx, breakerCacheKey)
	if err != nil && !errors.Is(err, ErrCacheMiss) {
		return // the account key will not be readable either
	}
	if is.breakerRead.Swap(true) || err != nil {
		return
	}
	var rec failureRecord
	if json.Unmarshal(data, &rec) != nil || rec.CA != is.dir {
		return
	}
	now := is.now()
	until := earlier(rec.RetryAt, earlier(rec.Time, now).Add(maxForeign))
	if until.After(now) {
		until = now.Add(min(until.Sub(now), maxForeign)) // so that a clock that jumps does not move it
		is.breakerSaved.Store(until.UnixNano())
		is.breaker.restore(rec.Attempts, until, rec.cause())
	}
}
