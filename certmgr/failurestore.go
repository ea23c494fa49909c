package certmgr

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

// isRecorded reports whether the Cache gets the record of a failure. Anyone can
// have a policy that allows every host fail for names of their own, without
// end: those are remembered in memory alone, which has a cap.
func (h *health) isRecorded(sub subject, rec *failure) bool {
	return h.settings.cache != nil && (rec.trust != untrusted || h.settings.trustOf(sub.host()) != notAllowed)
}

// newFailure returns the record of an issuance that failed with e.
func (h *health) newFailure(i *issuance, e *IssuanceError) *failure {
	return &failure{
		err:      e,
		by:       origin{h.self.machine, h.self.process, h.settings.hash(), h.settings.isFleet() && isLocal(e.Stage, e.Err)},
		trust:    i.req.grant.trust,
		since:    e.Time,
		lastRead: e.Time,
		second:   i.req.second,
	}
}

// recordKey returns the key in the Cache of the record of a failure, of an
// attempt that a trust allowed. A host may have left the list meanwhile.
func (h *health) recordKey(k failureKey, t trust) string {
	host, _ := hostOfID(k.host)
	if t == listed || h.settings.isNamed(host) {
		return k.cacheKey()
	}
	return k.strangersCacheKey()
}

// failureEntry returns the record of a failure, and its key in the Cache.
func (h *health) failureEntry(sub subject, rec *failure) (key string, record failureRecord) {
	at, record := newFailureRecord(sub, rec)
	key = h.recordKey(at, rec.trust)
	if key == attemptsCacheKey(sub.id()) {
		record.addAttempts(h.failures.attempts.toSave(sub.id(), h.now()))
	}
	return key, record
}

// putRecord writes the record of a failure to the Cache, if it still counts when the
// writes before have been made.
func (h *health) putRecord(ctx context.Context, key string, record failureRecord, counts func() bool) error {
	if record.Local {
		return h.store.update(ctx, key, func(data []byte) ([]byte, error) {
			if !counts() {
				return data, nil
			}
			return record.replacing(data, h.now())
		})
	}
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return h.store.putIf(ctx, key, data, counts)
}

// deleteRecord deletes the record of a failure from the Cache, and neither that of
// another host under the same key nor that of a failure since then.
func (h *health) deleteRecord(ctx context.Context, k failureKey, t trust) {
	key := h.recordKey(k, t)
	if key == k.cacheKey() {
		h.store.putIf(ctx, key, nil, func() bool { return !h.failures.uses(k) })
		return
	}
	h.store.deleteIf(ctx, key, func(data []byte) bool {
		var rec failureRecord
		return decodeRecord(data, maxRecord, &rec) == nil && rec.Host == k.host
	})
}

// saveFailure writes a failure's record to the Cache, for a restart and for
// other machines. Losing it costs at most one more attempt.
func (h *health) saveFailure(ctx context.Context, sub subject, rec *failure) {
	if !h.isRecorded(sub, rec) {
		return
	}
	key, record := h.failureEntry(sub, rec)
	counts := func() bool { return h.failures.counts(sub, rec) } // and is not overtaken by a success
	if counts() {
		h.putRecord(ctx, key, record, counts)
	}
}

// remember keeps a failure in memory. If it evicts another, that is deleted
// from the Cache too, so that the limit holds for both.
func (h *health) remember(sub subject, rec *failure) {
	at := rec.key(sub)
	if key := h.recordKey(at, rec.trust); (sub.group || key != at.cacheKey()) && rec.err.entry == "" {
		rec.err.entry = key
	}
	evicted, dropped := h.failures.put(sub, rec, h.now())
	if !dropped || h.settings.cache == nil {
		return
	}
	h.tasks.Go(func(ctx context.Context) {
		if !h.failures.uses(evicted) { // by another record, or a new one
			h.deleteRecord(context.WithoutCancel(ctx), evicted, notAllowed)
		}
	})
}

// recall loads the Cache's record of failures for sub into memory, unless this
// process has failed itself. An error means that it cannot be read; it has been
// reported. Call it in tasks only.
func (h *health) recall(ctx context.Context, sub subject, g grant) error {
	if h.failures.last(sub) != nil {
		return nil
	}
	saved, err := h.savedFailure(ctx, sub, func(ctx context.Context, key string) ([]byte, error) {
		return h.store.getInTask(ctx, h.store.reads, key)
	})
	if saved == nil || err != nil {
		return err
	}
	adoptFailure(h, sub, g, saved)
	return nil
}

// recallVerdict is recall for an attempt under the fleet's lock: what the CA told
// another machine counts here too, in place of what is known. What failed for other
// reasons does not: that machine's network or clock may be to blame.
func recallVerdict(ctx context.Context, h *health, i *issuance) {
	sub := i.req.sub
	saved, err := h.savedFailure(ctx, sub, func(ctx context.Context, key string) ([]byte, error) {
		return h.store.read(ctx, h.store.reads, key)
	})
	if err != nil || saved == nil || saved.by.process == h.self.process || len(text.Problems(saved.err)) == 0 {
		return
	}
	if last := h.failures.last(sub); last != nil && last.err.Attempt == saved.err.Attempt {
		return
	}
	adoptFailure(h, sub, i.req.grant, saved)
}

// adoptFailure takes over a failure that was read from the Cache.
func adoptFailure(h *health, sub subject, g grant, saved *failure) {
	now := h.now()
	saved.trust, saved.lastRead = g.trust, now
	saved = h.restored(sub, saved, now)
	h.remember(sub, saved)
	if e := saved.err; now.Before(e.RetryAt) {
		restored := audit.Event{
			Kind:    audit.BackoffRestored,
			Host:    sub.host(),
			KeyType: sub.alg.String(),
			Attempt: e.Attempt,
			Stage:   e.Stage,
			CA:      h.dir,
			RetryAt: e.RetryAt,
			Count:   e.Attempts,
			Err:     e,
		}
		e.describe(&restored)
		h.audit.Emit(restored)
	}
}

// savedFailure returns the Cache's record of failures for sub, or nil. A record
// that cannot be read is an error, a damaged one is not.
func (h *health) savedFailure(ctx context.Context, sub subject, get func(ctx context.Context, key string) ([]byte, error)) (*failure, error) {
	var found *failure
	for _, at := range recordKeysOf(sub) {
		key := h.recordKey(at, notAllowed)
		data, err := get(ctx, key)
		if errors.Is(err, ErrCacheMiss) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var rec failureRecord
		if err := decodeRecord(data, maxRecord, &rec); err != nil {
			h.reports.badRecord(key, err)
			continue
		}
		if rec.Host == sub.host() && rec.CA == sub.ca {
			h.failures.attempts.restore(sub.id(), rec.Begun, h.now())
		}
		if f := rec.failure(sub, h.self.machine, h.now()); f != nil && (found == nil || f.err.RetryAt.After(found.err.RetryAt)) {
			found = f
		}
	}
	return found, nil
}
