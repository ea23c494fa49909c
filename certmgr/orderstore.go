package certmgr

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/order"
)

// orderStore keeps the orders that conversations did not finish, in memory and
// in the Cache. An entry that cannot be read or written costs nothing but the
// resumption by another process.
type orderStore struct {
	*env
	memory   *memory
	store    *store
	sweeping atomic.Int32 // sweeps under way
	unfinishedOrders
}

const (
	// leftoverFor is the age of a certificate up to which its order's entry is
	// looked for when it is loaded: a process that was killed is restarted soon.
	leftoverFor = 48 * time.Hour

	// maxSweeps bounds the reads for that. More would compete with those of
	// handshakes when thousands of hosts are loaded.
	maxSweeps = 64
)

// orderCacheKey returns the key in the Cache of a subject's unfinished order.
func orderCacheKey(sub subject) string {
	if sub.alg == bundle.RSA {
		return entryKey(sub.id(), "+rsa+order")
	}
	return entryKey(sub.id(), "+order")
}

// read returns the order in a subject's entry, and the record that it is from,
// or nil if there is none. An error has been reported, and the entry counts as
// missing; it is a newerOrder if the entry is of a later version.
func (s *orderStore) read(ctx context.Context, sub subject) (u *order.Unfinished, rec *orderRecord, err error) {
	if s.settings.cache == nil {
		return nil, nil, nil
	}
	if err := s.store.failedLately(orderCacheKey(sub)); err != nil {
		return nil, nil, err // reported by then
	}
	return s.readNow(ctx, sub)
}

// readNow is read although such reads may have hung.
func (s *orderStore) readNow(ctx context.Context, sub subject) (u *order.Unfinished, rec *orderRecord, err error) {
	c, key := s.settings.cache, orderCacheKey(sub)
	in, cancel := context.WithTimeout(ctx, cacheTimeout)
	defer cancel()
	// Not a shared read, which may have begun before another process's write.
	data, err := flight.CallOut(in, s.store.reads, key, func(ctx context.Context) ([]byte, error) { return c.Get(ctx, key) })
	if errors.Is(err, ErrCacheMiss) || err == nil && data == nil {
		return nil, nil, nil
	}
	if err != nil {
		err = &refusal{kind: ErrCache, text: fmt.Sprintf("reading %q; %s", key, adviceOn(key, err)), cause: err}
		if ctx.Err() == nil {
			s.noteHang(err)
			s.reports.report(key, audit.Event{
				Kind:    audit.CacheReadFailed,
				Host:    sub.host(),
				KeyType: sub.alg.String(),
				Err:     err,
			})
		}
		return nil, nil, err
	}
	u, rec, err = decodeOrder(sub, data, s.now())
	if err != nil {
		s.reports.report(key, audit.Event{
			Kind:    audit.CacheEntryRejected,
			Host:    sub.host(),
			KeyType: sub.alg.String(),
			Reason:  "the entry under \"" + key + "\" counts as missing",
			Err:     err,
		})
	}
	return u, rec, err
}

// foundOrder is what the Cache has of a subject's order, as read under the fleet's
// lock: by that, no other machine writes it. It tells what became of an order that is
// in memory, which another machine may have resumed.
type foundOrder struct {
	order    *order.Unfinished // nil if there is none
	leftover bool              // the certificate in service came of it
	apart    bool              // it is of a later version
}

// readShared reads the entry of an order under the fleet's lock. Without it no order
// may be placed: another machine may have finalized one, and stopped.
func (s *orderStore) readShared(ctx context.Context, sub subject) (*foundOrder, error) {
	u, rec, err := s.readNow(ctx, sub)
	if errors.Is(err, ErrCache) {
		return nil, err
	}
	f := &foundOrder{order: u}
	_, f.apart = err.(newerOrder)
	f.leftover = u != nil && isLeftover(rec, u, s.memory.current(sub))
	return f, nil
}

// find returns the order that the next attempt will resume, or nil.
func (s *orderStore) find(ctx context.Context, sub subject) *order.Unfinished {
	if kept := s.get(sub); kept != nil {
		return kept.order
	}
	u, rec, err := s.read(ctx, sub)
	if err != nil || u == nil || isLeftover(rec, u, s.memory.current(sub)) {
		s.noteNone(sub, s.now())
		return nil
	}
	return u
}

// isFinalized reports whether the certificate of the order that the next attempt
// will resume was asked for.
func (s *orderStore) isFinalized(ctx context.Context, sub subject) bool {
	u := s.find(ctx, sub)
	return u != nil && u.Key != nil
}

// sweep deletes, in the background, the entry of the order that a certificate
// came of, which has just been loaded: a process that was killed left it. An
// entry that sweep does not find is found when the next issuance begins.
func (s *orderStore) sweep(cert *certificate) {
	sub := cert.subject
	if s.settings.cache == nil || s.now().Sub(cert.notBefore) > leftoverFor || s.has(sub) {
		return
	}
	if s.sweeping.Add(1) > maxSweeps {
		s.sweeping.Add(-1)
		return
	}
	began := s.tasks.Go(func(ctx context.Context) {
		defer s.sweeping.Add(-1)
		u, rec, err := s.read(ctx, sub)
		if err == nil && u != nil && isLeftover(rec, u, cert) {
			s.store.deleteIf(context.WithoutCancel(ctx), attemptsCacheKey(sub.id()), isOfAttempts)
			s.remove(ctx, sub, u.URL)
		}
	})
	if !began {
		s.sweeping.Add(-1)
	}
}

// noteHang notes a failed call of the Cache that took all its time, so that an
// issuance does not wait so long for each of them.
func (s *orderStore) noteHang(err error) {
	if flight.IsTimeout(err) {
		s.store.recent.note(hangingRecords, err)
	}
}

// write writes the entry of an order, and reports whether it did. A failure has
// been reported. While such calls hang, only an order with a key is written, and
// in the background after patience.
func (s *orderStore) write(ctx context.Context, sub subject, u *order.Unfinished) bool {
	var keptOf *certificate
	if cert := s.memory.current(sub); cert != nil && u.Key != nil && bundle.EqualKeys(cert.leaf.PublicKey, u.Key.Public()) {
		keptOf = cert
	}
	key := orderCacheKey(sub)
	data, err := encodeOrder(sub, u, keptOf)
	if err != nil {
		return false
	}
	if s.store.failedLately(key) == nil {
		// Close does not interrupt it: that would look like a failure of the Cache.
		err := s.store.put(context.WithoutCancel(ctx), key, data)
		s.noteHang(err)
		return err == nil
	}
	if u.Key == nil {
		return false
	}
	done := make(chan bool, 1)
	if !s.tasks.Go(func(task context.Context) { done <- s.store.put(guarded(task, ctx), key, data) == nil }) {
		return false
	}
	select {
	case ok := <-done:
		return ok
	case <-time.After(patience):
		return false
	}
}

// remove deletes the entry if it is that of the order with this URL, or in any
// case if url is empty. An entry of a later version stays. While such calls hang,
// that of a known order is deleted later, and nothing else: a leftover is
// recognized.
func (s *orderStore) remove(ctx context.Context, sub subject, url string) {
	if s.store.failedLately(orderCacheKey(sub)) == nil {
		s.removeNow(ctx, sub, url)
	} else if url != "" {
		s.tasks.Go(func(task context.Context) {
			if flight.Sleep(task, skipRecordsFor) == nil {
				s.removeNow(guarded(task, ctx), sub, url)
			}
		})
	}
}

func (s *orderStore) removeNow(ctx context.Context, sub subject, url string) {
	s.store.deleteIf(context.WithoutCancel(ctx), orderCacheKey(sub), func(data []byte) bool {
		u, _, err := decodeOrder(sub, data, s.now())
		if _, newer := err.(newerOrder); newer {
			return false
		}
		return url == "" || err == nil && u.URL == url
	})
}

// forget forgets a subject's order, whatever it is.
func (s *orderStore) forget(ctx context.Context, sub subject) {
	s.drop(sub)
	s.remove(ctx, sub, "")
}

// forgetHost is forget for all key types.
func (s *orderStore) forgetHost(ctx context.Context, host string) {
	for alg := range bundle.Algorithm(bundle.Algorithms) {
		s.forget(ctx, s.subject(host, alg))
	}
}

// hasHost reports whether an order of the host is in memory.
func (s *orderStore) hasHost(host string) bool {
	for alg := range bundle.Algorithm(bundle.Algorithms) {
		if s.has(s.subject(host, alg)) {
			return true
		}
	}
	return false
}

// dropHost is forgetHost for a host that is no longer allowed. It does not block.
func (s *orderStore) dropHost(host string) {
	for alg := range bundle.Algorithm(bundle.Algorithms) {
		s.drop(s.subject(host, alg))
	}
	if s.settings.cache == nil {
		return
	}
	s.tasks.Go(func(ctx context.Context) {
		if s.settings.trustOf(host) == notAllowed { // it was not added again
			s.forgetHost(ctx, host)
		}
	})
}
