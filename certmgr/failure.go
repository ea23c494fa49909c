package certmgr

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/text"
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

// failureKey is a host and a key type; a failed validation says the same for
// both of a host's key types.
type failureKey struct {
	host string
	rsa  bool
	any  bool
}

// cacheKey returns where the record is kept in the Cache.
func (k failureKey) cacheKey() string {
	if k.rsa {
		return k.host + "+rsa+failure"
	}
	return k.host + "+failure"
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
	host := sub.host()
	both, _ := f.records.Get(failureKey{host: host, any: true})
	own, _ := f.records.Get(failureKey{host: host, rsa: sub.keyType == bundle.RSA})
	if own == nil || both != nil && both.err.RetryAt.After(own.err.RetryAt) {
		return both
	}
	return own
}

// put remembers a failure: of the host if validation is what failed, else of
// the subject.
//
// It returns what it dropped to make room, and whether it dropped anything.
func (f *failures) put(sub subject, rec *failure, now time.Time) (evicted failureKey, dropped bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := failureKey{host: sub.host(), rsa: sub.keyType == bundle.RSA}
	if isAboutHost(rec.err.Stage) {
		key = failureKey{host: sub.host(), any: true}
	}
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
	for _, k := range []failureKey{{host: host, any: true}, {host: host}, {host: host, rsa: true}} {
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
	f.records.Delete(failureKey{host: sub.host(), any: true})
	f.records.Delete(failureKey{host: sub.host(), rsa: sub.keyType == bundle.RSA})
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
	f.records.Delete(failureKey{host: host, any: true})
	f.records.Delete(failureKey{host: host})
	f.records.Delete(failureKey{host: host, rsa: true})
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
		yield(key.host, rec, key.any)
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// failureRecord is the JSON form of a failure in the Cache, under the host's
// key and "+failure". A crash loop finds it and leaves the CA alone.
type failureRecord struct {
	Host     string      `json:"host"`
	KeyType  string      `json:"keyType,omitempty"` // empty: both
	Stage    audit.Stage `json:"stage"`
	CA       string      `json:"ca"`
	Account  string      `json:"account,omitempty"`
	Machine  string      `json:"machine,omitempty"`
	Attempt  string      `json:"attempt,omitempty"`
	Attempts int         `json:"attempts"`
	Time     time.Time   `json:"time"`
	RetryAt  time.Time   `json:"retryAt"`
	Cause    string      `json:"cause"`
	Problem  string      `json:"problem,omitempty"` // ACME problem type
	Status   int         `json:"status,omitempty"`
	ClockOff bool        `json:"clockOff,omitempty"`
}

// failureCacheKeys returns the keys to read for sub; the first one, or for a
// validation failure the last one, is where its own failure is written.
func failureCacheKeys(sub subject) []string {
	if sub.keyType == bundle.RSA {
		return []string{sub.host() + "+rsa+failure", sub.host() + "+failure"}
	}
	return []string{sub.host() + "+failure"}
}

func newFailureRecord(sub subject, f *failure) (key string, rec failureRecord) {
	keys := failureCacheKeys(sub)
	key = keys[0]
	e := f.err
	rec = failureRecord{
		Host:     e.Host,
		KeyType:  e.KeyType,
		Stage:    e.Stage,
		CA:       e.CA,
		Account:  f.account,
		Machine:  f.machine,
		Attempt:  e.Attempt,
		Attempts: e.Attempts,
		Time:     e.Time.UTC(),
		RetryAt:  e.RetryAt.UTC(),
		Cause:    text.OneLine(text.Of(e.Err), text.MaxError),
		ClockOff: f.clockOff,
	}
	if isAboutHost(e.Stage) {
		key, rec.KeyType = keys[len(keys)-1], ""
	}
	if problems := text.Problems(e.Err); len(problems) > 0 {
		p := problems[len(problems)-1] // what ended the attempt
		rec.Problem, rec.Status = p.ProblemType, p.StatusCode
	}
	return key, rec
}

// failure returns what the record tells about sub now, or nil if it is about
// something else or holds nothing back any more.
func (r failureRecord) failure(sub subject, machine string, now time.Time) *failure {
	if r.Host != sub.host() || r.CA != sub.ca || r.KeyType != "" && r.KeyType != sub.keyType.String() {
		return nil
	}
	failed := earlier(r.Time, now) // by a clock that may be ahead
	retry := r.RetryAt
	switch {
	case !r.ClockOff:
		retry = earlier(retry, failed.Add(maxForeign))
	case r.Machine != machine || r.Time.After(now):
		return nil // a clock that is off is about its own machine, until it is set
	}
	if !now.Before(retry) && now.Sub(failed) > 48*time.Hour {
		return nil // too old to count
	}
	retry = now.Add(retry.Sub(now)) // so that a clock that jumps does not move it
	return &failure{
		err: &IssuanceError{
			Host:     r.Host,
			KeyType:  sub.keyType.String(),
			Stage:    r.Stage,
			CA:       r.CA,
			Attempt:  r.Attempt,
			Attempts: max(1, min(r.Attempts, 1000)),
			Time:     failed,
			RetryAt:  retry,
			Err:      r.cause(),
		},
		account:  r.Account,
		machine:  r.Machine,
		since:    failed,
		foreign:  true,
		clockOff: r.ClockOff,
	}
}

func (r failureRecord) cause() error {
	where := ""
	if r.Machine != "" {
		where = " (seen by " + text.OneLine(r.Machine, 100) + ")"
	}
	e := &recordedError{text: text.OneLine(r.Cause, text.MaxError) + where}
	if r.Problem != "" || r.Status != 0 {
		e.cause = &acme.Error{StatusCode: r.Status, ProblemType: r.Problem, Detail: text.OneLine(r.Cause, text.MaxError)}
	} else if r.Stage == audit.StagePreflight {
		e.cause = ErrUnreachable
	}
	return e
}

// recordedError is a cause that was read from the Cache.
type recordedError struct {
	text  string
	cause error
}

func (e *recordedError) Error() string { return e.text }
func (e *recordedError) Unwrap() error { return e.cause }
