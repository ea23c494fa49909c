package certmgr

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/account"
	"github.com/nostall/nostall/internal/text"
)

// A failure is either a verdict of the CA, which holds for all machines of a fleet,
// or it is local: the network between one machine and the CA, its clock, its access
// to the Cache. A local failure makes no other machine wait, and its record replaces
// no verdict. Only machines of a fleet tell them apart: those whose Cache has locks.

// isFleet reports whether the Cache has locks, for several machines.
func (set *settings) isFleet() bool {
	if set.cache == nil {
		return false
	}
	_, ok := cache.LockerOf(set.cache)
	return ok
}

// isLocal reports whether a failure at a stage says nothing about other machines: no
// answer of the CA is among its causes.
func isLocal(stage audit.Stage, err error) bool {
	switch {
	case len(text.Problems(err)) > 0:
		return false
	case stage == audit.StagePreflight, stage == audit.StageKey, stage == audit.StageQueue:
		return true
	case errors.Is(err, ErrCache), errors.Is(err, ErrClock), errors.Is(err, ErrKeySource), account.IsUnavailable(err):
		return true
	}
	return len(requestErrors(err)) > 0
}

// isLocal reports whether an outage is one of this machine alone, which cannot reach
// the CA, or has no account for a reason that the CA did not give.
func (o *outage) isLocal() bool {
	return len(text.Problems(o.cause)) == 0 && (o.noAccount || len(requestErrors(o.cause)) > 0)
}

// outranks reports whether the entry of a record must not be replaced by that of
// a local failure.
func (r failureRecord) outranks(local failureRecord, now time.Time) bool {
	return r.Attempts > 0 && !r.Local && r.Host == local.Host && r.CA == local.CA &&
		(now.Before(r.RetryAt) || now.Sub(r.Time) <= maxRecordAge)
}

// replacing returns what is written in place of an entry: the record of a local
// failure leaves a verdict as it is, and adds the attempts.
func (r failureRecord) replacing(data []byte, now time.Time) ([]byte, error) {
	var verdict failureRecord
	if !r.Local || decodeRecord(data, maxRecord, &verdict) != nil || !verdict.outranks(r, now) {
		return json.Marshal(r)
	}
	verdict.Begun = r.Begun
	return json.Marshal(verdict)
}
