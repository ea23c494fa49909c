package certmgr

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/account"
	"github.com/nostall/nostall/internal/text"
)

// saveFailure writes a failure's record to the Cache, where a restart and
// other machines find it. Losing it costs one more attempt at worst.
func (h *health) saveFailure(ctx context.Context, sub subject, rec *failure) {
	// Anyone can have a policy that allows every host fail for names of their
	// own, without end: those are remembered in memory alone, which has a cap.
	if h.settings.cache == nil || rec.trust == untrusted && h.settings.trustOf(sub.host()) == notAllowed {
		return
	}
	key, record := newFailureRecord(sub, rec)
	data, err := json.Marshal(record)
	if err != nil {
		return
	}
	if h.failures.last(sub) == rec { // and not overtaken by a success
		h.store.put(ctx, key, data)
	}
}

// remember keeps a failure in memory. What has to make room for it goes from the
// Cache too, so that the cap holds for both.
func (h *health) remember(sub subject, rec *failure) {
	evicted, dropped := h.failures.put(sub, rec, h.now())
	if !dropped || h.settings.cache == nil {
		return
	}
	key := evicted.cacheKey()
	h.tasks.Go(func(ctx context.Context) {
		if !h.failures.uses(key) { // by another record, or by one that was made meanwhile
			h.store.delete(context.WithoutCancel(ctx), key)
		}
	})
}

// recall brings into memory what the Cache knows of failures for sub, unless
// this process has failed itself. It is for tasks.
func (h *health) recall(ctx context.Context, sub subject, g grant) error {
	if h.failures.last(sub) != nil {
		return nil
	}
	saved, err := h.savedFailure(ctx, sub)
	if saved == nil || err != nil {
		return err
	}
	now := h.now()
	saved.trust, saved.lastRead = g.trust, now
	h.remember(sub, saved)
	if now.Before(saved.err.RetryAt) {
		h.audit.Emit(audit.Event{
			Kind:    audit.BackoffRestored,
			Host:    sub.host(),
			KeyType: sub.keyType.String(),
			Attempt: saved.err.Attempt,
			Stage:   saved.err.Stage,
			CA:      h.dir,
			RetryAt: saved.err.RetryAt,
			Count:   saved.err.Attempts,
			Err:     saved.err,
		})
	}
	return nil
}

// savedFailure returns what the Cache knows of failures for sub that this
// process does not: nil if there is nothing. An unreadable cache is an error,
// a damaged record is none.
func (h *health) savedFailure(ctx context.Context, sub subject) (*failure, error) {
	var found *failure
	for _, key := range failureCacheKeys(sub) {
		data, err := h.store.getInTask(ctx, h.store.reads, key)
		if errors.Is(err, ErrCacheMiss) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var rec failureRecord
		if err := json.Unmarshal(data, &rec); err != nil {
			h.store.reports.report(key, audit.Event{Kind: audit.CacheEntryRejected, Host: sub.host(), Reason: key, Err: err})
			continue
		}
		if f := rec.failure(sub, h.machine, h.now()); f != nil && (found == nil || f.err.RetryAt.After(found.err.RetryAt)) {
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
func (h *health) rememberBreaker() {
	until, failures, cause := h.breaker.state()
	switch {
	case account.IsUnavailable(cause): // no CA was asked in vain
	case cause != nil:
		if h.breakerSaved.Swap(until.UnixNano()) == until.UnixNano() {
			return
		}
		rec := failureRecord{
			CA:       h.dir,
			Machine:  h.machine,
			Attempts: failures,
			Time:     h.now().UTC(),
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
		h.tasks.Go(func(ctx context.Context) { h.store.put(context.WithoutCancel(ctx), breakerCacheKey, data) })
	case h.breakerSaved.Swap(0) != 0:
		h.tasks.Go(func(ctx context.Context) { h.store.delete(context.WithoutCancel(ctx), breakerCacheKey) })
	}
}

// recallBreaker reads once what the Cache knows of the CA's failures. Like
// every record of another process it holds back for maxForeign at most.
func (h *health) recallBreaker(ctx context.Context) {
	if h.breakerRead.Load() {
		return
	}
	data, err := h.store.get(ctx, breakerCacheKey)
	if err != nil && !errors.Is(err, ErrCacheMiss) {
		return // the account key will not be readable either
	}
	if h.breakerRead.Swap(true) || err != nil {
		return
	}
	var rec failureRecord
	if json.Unmarshal(data, &rec) != nil || rec.CA != h.dir {
		return
	}
	now := h.now()
	until := earlier(rec.RetryAt, earlier(rec.Time, now).Add(maxForeign))
	if until.After(now) {
		until = now.Add(min(until.Sub(now), maxForeign)) // so that a clock that jumps does not move it
		h.breakerSaved.Store(until.UnixNano())
		h.breaker.restore(rec.Attempts, until, rec.cause())
	}
}
