package certmgr

import (
	"context"
	"encoding/json"
	"errors"
)

// saveFailure writes a failure's record to the Cache, where a restart and
// other machines find it. Losing it costs one more attempt at worst.
func (is *issuer) saveFailure(ctx context.Context, sub subject, rec *failure) {
	if is.m.Cache == nil {
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
			is.audit.emit(Event{Kind: EventCacheEntryRejected, Host: sub.host(), Reason: key, Err: err})
			continue
		}
		if f := rec.failure(sub, is.now()); f != nil && (found == nil || f.err.RetryAt.After(found.err.RetryAt)) {
			found = f
		}
	}
	return found, nil
}
