package certmgr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/auditqueue"
	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/hosts"
)

// cacheTimeout is the time-out of one call of the Cache.
const cacheTimeout = 5 * time.Second

// store is the Cache with time-outs and limits: a call that hangs, panics or
// fails delays its own caller by at most cacheTimeout, and no other.
type store struct {
	settings  *settings
	audit     *auditqueue.Queue
	reports   *coalescer
	warnings  *warnings
	tasks     *flight.Tasks
	reads     *flight.Callouts
	tokens    *flight.Callouts // reads of challenge answers
	untrusted *flight.Callouts // reads for untrusted hosts
	writes    *flight.Callouts
	outage    *storeOutage                   // nil unless the Cache is a fleet's
	flight    *flight.Flight[string, []byte] // reads, by key

	recent failedReads
}

// failedReads are recent failures, some of them outdated.
type failedReads struct {
	mu     sync.Mutex
	failed capped.Map[string, failedRead]
}

// failedRead is remembered for a moment, so that a cache that fails at once
// does not cause a call and an event for each handshake.
type failedRead struct {
	err error
	at  time.Time
}

const (
	failedFor      = time.Second
	maxFailedReads = 1_000

	// skipRecordsFor is how long records are not read after a read of one
	// hung: certificates do not wait for each of them.
	skipRecordsFor = time.Minute

	hangingRecords = "hanging records" // the key of that in failedReads
)

// get returns an entry; concurrent calls share one read. The error is
// ErrCacheMiss itself, or wraps ErrCache. The entry is shared and must not be
// changed.
func (s *store) get(ctx context.Context, key string) ([]byte, error) {
	call, err := s.fetch(s.reads, key)
	if err != nil {
		return nil, err
	}
	return call.Await(ctx)
}

// getInTask is get for tasks. They need no extra goroutine, because no caller
// can leave before the read ends, within cacheTimeout. reads is the limit for
// one kind of callers, so that untrusted hosts cannot use up that of the
// others.
func (s *store) getInTask(ctx context.Context, reads *flight.Callouts, key string) ([]byte, error) {
	if err := s.failedLately(key); err != nil {
		return nil, err
	}
	return s.flight.Do(ctx, key, func(ctx context.Context) ([]byte, error) { return s.read(ctx, reads, key) })
}

// fetch begins a read in the background, or joins the one in flight.
func (s *store) fetch(reads *flight.Callouts, key string) (flight.Ticket[string, []byte], error) {
	if err := s.failedLately(key); err != nil {
		return flight.Ticket[string, []byte]{}, err
	}
	return s.flight.Start(key, func(ctx context.Context) ([]byte, error) { return s.read(ctx, reads, key) })
}

func (s *store) failedLately(key string) error { return s.recent.lately(key) }

// lately returns the error of a read that has just failed, or nil.
func (r *failedReads) lately(key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	lately := func(key string, limit time.Duration) error {
		f, ok := r.failed.Get(key)
		if since := time.Since(f.at); !ok || since < 0 || since >= limit {
			return nil
		}
		return f.err
	}
	if canSkip(key) {
		if err := lately(hangingRecords, skipRecordsFor); err != nil {
			return err
		}
	}
	return lately(key, failedFor)
}

// canSkip reports whether a record may go unread while reads of records hang.
// Those of the account's keys are read whenever they matter.
func canSkip(key string) bool { return isRecord(key) && !strings.HasPrefix(key, "acme_account+") }

func (r *failedReads) note(key string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed.Max = maxFailedReads
	r.failed.Put(key, failedRead{err, time.Now()}, func(a, b failedRead) bool { return a.at.Before(b.at) })
}

func (s *store) read(ctx context.Context, reads *flight.Callouts, key string) ([]byte, error) {
	c := s.settings.cache
	if c == nil {
		return nil, ErrCacheMiss
	}
	timed, cancel := context.WithTimeout(ctx, cacheTimeout)
	defer cancel()
	data, err := flight.CallOut(timed, reads, key, func(ctx context.Context) ([]byte, error) { return c.Get(ctx, key) })
	switch {
	case err == nil && data == nil:
		s.worksFor(key)
		s.warnings.warn("Get of Manager.Cache returned neither an entry nor an error: " +
			"this counts as a miss, but Get should return certmgr.ErrCacheMiss for a key without an entry")
		return nil, ErrCacheMiss
	case err == nil:
		s.worksFor(key)
		return data, nil
	case errors.Is(err, ErrCacheMiss):
		s.worksFor(key)
		return nil, ErrCacheMiss
	}
	err = &refusal{kind: ErrCache, text: fmt.Sprintf("reading %q; %s", key, adviceOn(key, err)), cause: err}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, err // the Manager was closed, or nobody waits any more: that is no failure of the cache
	}
	s.recent.note(key, err)
	if canSkip(key) && flight.IsTimeout(err) {
		s.recent.note(hangingRecords, err)
	}
	s.report(key, audit.Event{Kind: audit.CacheReadFailed, Host: hostOfKey(key), Err: err})
	return nil, err
}

// adviceOn says what a failed read means.
func adviceOn(key string, err error) string {
	switch {
	case isRecord(key):
		return "certificates are served and issued without this entry"
	case seemsMissing(err):
		return "for a key without an entry, Get of the Cache must return certmgr.ErrCacheMiss"
	}
	return "no order is placed until the cache can be read"
}

// put writes an entry. The error wraps ErrCache; if it also wraps ErrBusy, the
// write was not made and the entry is unchanged. Writes that must not be lost
// use a context that Close does not end; cacheTimeout limits them, and Close
// waits.
func (s *store) put(ctx context.Context, key string, data []byte) error {
	return s.write(ctx, key, "writing", func(ctx context.Context, c Cache) error { return c.Put(ctx, key, data) })
}

// putIf is put if wanted is true when it is the turn of this write. With no data it
// deletes the entry.
func (s *store) putIf(ctx context.Context, key string, data []byte, wanted func() bool) error {
	what := "writing"
	if data == nil {
		what = "deleting"
	}
	return s.write(ctx, key, what, func(ctx context.Context, c Cache) error {
		switch {
		case !wanted():
			return nil
		case data == nil:
			return deleteEntry(ctx, c, key)
		}
		return c.Put(ctx, key, data)
	})
}

// update writes an entry that f makes of the present one, which is nil if there is
// none, unless f returns the same. This process does not write to key in between.
func (s *store) update(ctx context.Context, key string, f func(data []byte) ([]byte, error)) error {
	return s.write(ctx, key, "updating", func(ctx context.Context, c Cache) error {
		data, err := c.Get(ctx, key)
		if err != nil && !errors.Is(err, ErrCacheMiss) {
			return err
		}
		updated, err := f(data)
		if err != nil || bytes.Equal(updated, data) {
			return err
		}
		return c.Put(ctx, key, updated)
	})
}

// delete deletes an entry, if there is one. Some caches fail to delete what is
// not there.
func (s *store) delete(ctx context.Context, key string) error {
	return s.write(ctx, key, "deleting", func(ctx context.Context, c Cache) error { return deleteEntry(ctx, c, key) })
}

func deleteEntry(ctx context.Context, c Cache, key string) error {
	err := c.Delete(ctx, key)
	if err == nil || ctx.Err() != nil {
		return err
	}
	data, missing := c.Get(ctx, key)
	switch {
	case missing == nil && data == nil, errors.Is(missing, ErrCacheMiss), missing != nil && seemsMissing(missing):
		return nil
	}
	return err
}

func (s *store) write(ctx context.Context, key, what string, f func(context.Context, Cache) error) error {
	c := s.settings.cache
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cacheTimeout)
	defer cancel()
	// One at a time for a key and in order: a delete must not overtake the put
	// before it.
	_, err := flight.CallOut(ctx, s.writes, key, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx, c) })
	if err == nil {
		s.works()
		return nil
	}
	err = &refusal{kind: ErrCache, text: fmt.Sprintf("%s %q", what, key), cause: err}
	if isLost(err) {
		return err // another machine's entry is there, or will be
	}
	s.report(key, audit.Event{Kind: audit.CacheWriteFailed, Host: hostOfKey(key), Err: err})
	return err
}

// certificateWrite is the write of a certificate that was issued.
type certificateWrite struct {
	cert    *certificate
	put     func(context.Context) error
	current func() bool           // whether the entry is still wanted after a failure
	stored  func(context.Context) // called when it is written
	ended   func()                // called when it is, or was given up
}

// errStored: somebody else has written a certificate that is not older.
var errStored = errors.New("certmgr: a newer certificate is in the Cache")

// putCertificate writes a certificate's entry. If that takes long or fails, it
// continues in the background until it succeeds or the entry is obsolete.
func (s *store) putCertificate(w certificateWrite) {
	tried := make(chan struct{})
	ok := s.tasks.Go(func(ctx context.Context) {
		defer w.ended()
		// Close does not interrupt this: an issued certificate must not be
		// lost.
		err := w.put(context.WithoutCancel(ctx))
		close(tried)
		switch err {
		case nil:
			w.stored(ctx)
			return
		case errStored:
			return
		}
		flight.Retry(ctx, func(ctx context.Context) (done bool) {
			if !w.current() {
				return true
			}
			if err := w.put(ctx); err != nil {
				return err == errStored
			}
			s.audit.Emit(audit.Event{Kind: audit.CacheWriteRecovered, Host: w.cert.subject.host(), KeyType: w.cert.subject.alg.String()})
			w.stored(ctx)
			return true
		})
	})
	if !ok { // closed; this goroutine is one that Close waits for
		defer w.ended()
		if w.put(context.Background()) == nil {
			w.stored(context.Background())
		}
		return
	}
	select {
	case <-tried:
	case <-time.After(patience):
	}
}

// patience is how long an issuance, and with it the handshake that began it,
// waits for its certificate to be written: the cache then usually has it before
// a client does.
const patience = time.Second

// hostOfKey returns the host that a cache key belongs to, if it has one.
func hostOfKey(key string) string {
	host, _, _ := strings.Cut(key, "+")
	if host = hosts.OfKey(host); !strings.ContainsAny(host, ".:") {
		return "" // account key, http-01 token
	}
	return host
}

// deleteIf deletes an entry if is reports true for it. This process does not
// write to key in between.
func (s *store) deleteIf(ctx context.Context, key string, is func(data []byte) bool) error {
	c := s.settings.cache
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cacheTimeout)
	defer cancel()
	// Do not join a shared read, which may have begun before the last write.
	_, err := flight.CallOut(ctx, s.writes, key, func(ctx context.Context) (struct{}, error) {
		data, err := c.Get(ctx, key)
		if err == nil && is(data) {
			err = c.Delete(ctx, key)
		}
		return struct{}{}, err
	})
	if err == nil || errors.Is(err, ErrCacheMiss) || isLost(err) {
		return nil
	}
	err = &refusal{kind: ErrCache, text: fmt.Sprintf("deleting %q", key), cause: err}
	s.report(key, audit.Event{Kind: audit.CacheWriteFailed, Host: hostOfKey(key), Err: err})
	return err
}
