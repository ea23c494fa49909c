package certmgr

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nostall/nostall/internal/bundle"
)

// attemptsCacheKey returns the key in the Cache of the record that names a
// host's attempts, which may be that of a failure as well.
func attemptsCacheKey(host string) string { return failureKey{host, scopeHost}.cacheKey() }

// addAttempts adds attempts without a known outcome.
func (r *failureRecord) addAttempts(began []time.Time) {
	for _, t := range began {
		r.Begun = append(r.Begun, t.UTC())
	}
}

// recordAttempt writes an attempt that has just begun to the Cache, if a crash
// now may be one of many. The attempt does not wait for that. Hosts whose names
// strangers choose are counted in memory alone.
func (h *health) recordAttempt(i *issuance) {
	g := i.req.grant
	named := g.trust == listed || g.trust == byPolicy && isWhitelist(h.settings.hostPolicy)
	if !named || h.settings.cache == nil || i.counted.at.IsZero() {
		return
	}
	if time.Since(h.clock.began) > crashLoop && !h.failures.attempts.hasCut(i.req.sub.id()) {
		return
	}
	done := make(chan struct{})
	if h.tasks.Go(func(ctx context.Context) {
		defer close(done)
		h.saveAttempts(context.WithoutCancel(ctx), i.req.sub)
	}) {
		i.counted.recorded = done
	}
}

// updateRecord brings the Cache's record up to date if it has the attempt, which
// has ended.
func (h *health) updateRecord(i *issuance) {
	if i.counted.recorded != nil {
		h.tasks.Go(func(ctx context.Context) {
			i.counted.wait()
			h.saveAttempts(context.WithoutCancel(ctx), i.req.sub)
		})
	}
}

// clearPatience is how long the entry of an order stays for the record of its
// attempt to be cleared first.
const clearPatience = 100 * time.Millisecond

// clearRecord takes the attempts of a host that has its certificate out of the
// Cache's record. It waits for that, but not for long.
func (h *health) clearRecord(i *issuance) {
	if i.counted.recorded == nil && !h.failures.attempts.isSaved(i.req.sub.id()) {
		return
	}
	done := make(chan struct{})
	if !h.tasks.Go(func(ctx context.Context) {
		defer close(done)
		i.counted.wait()
		h.saveAttempts(context.WithoutCancel(ctx), i.req.sub)
	}) {
		return // closed; the next issuance clears it
	}
	select {
	case <-done:
	case <-time.After(clearPatience):
	}
}

// isOfAttempts reports whether an entry is a record of attempts alone.
func isOfAttempts(data []byte) bool {
	var rec failureRecord
	return decodeRecord(data, maxRecord, &rec) == nil && rec.Attempts == 0 && len(rec.Begun) > 0
}

// saveAttempts brings the Cache's record of the attempts of a host, or of a group, up to
// date. Losing it costs at most some more attempts.
func (h *health) saveAttempts(ctx context.Context, sub subject) {
	sub, key := sub.withAlgorithm(bundle.ECDSA), attemptsCacheKey(sub.id())
	if h.store.failedLately(key) != nil {
		return
	}
	recorded := func() *failure {
		if rec := h.failures.last(sub); rec != nil && h.isRecorded(sub, rec) {
			return rec
		}
		return nil
	}
	if rec := recorded(); rec != nil {
		h.saveFailure(ctx, sub, rec)
		return
	}
	// A failure meanwhile has a record of its own, under the same key.
	h.store.putIf(ctx, key, attemptsEntry(h, sub), func() bool { return recorded() == nil })
}

// attemptsEntry returns the record of the attempts alone, or nil if there are none.
func attemptsEntry(h *health, sub subject) []byte {
	now := h.now()
	began := h.failures.attempts.toSave(sub.id(), now)
	if len(began) == 0 {
		return nil
	}
	rec := failureRecord{
		Host:    sub.host(),
		CA:      h.dir,
		Machine: h.self.machine,
		Process: h.self.process,
		Time:    now.UTC(),
		RetryAt: now.UTC(),
	}
	rec.addAttempts(began)
	data, err := json.Marshal(rec)
	if err != nil {
		return nil
	}
	return data
}
