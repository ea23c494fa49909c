package account

import (
	"context"
	"crypto"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
)

// saver saves a key that the CA knows as the current one: it overwrites the
// entry of the old key, and then deletes the entry of the next key.
type saver struct {
	*base
	keys *keyStore
}

// save does so once, even if ctx ends.
func (s *saver) save(ctx context.Context, key crypto.Signer) error {
	ctx = context.WithoutCancel(ctx)
	err := s.keys.put(ctx, currentEntry, key)
	if err == nil {
		s.keys.deleteNext(ctx, key)
	}
	return err
}

// saveOrLater saves acc's key now. If that fails, it retries in the background
// until it succeeds or another account is in use. The turn is held.
func (s *saver) saveOrLater(ctx context.Context, acc *Account) {
	if s.save(ctx, acc.Key) == nil {
		s.known.publish(acc, saved)
		return
	}
	s.tasks.Go(func(ctx context.Context) {
		flight.Retry(ctx, func(ctx context.Context) (done bool) { return s.saveAgain(ctx, acc) })
	})
}

// saveAgain retries, under the lock, and reports whether nothing is left to save.
func (s *saver) saveAgain(ctx context.Context, acc *Account) bool {
	release, err := s.turn.take(ctx)
	if err != nil {
		return true // closed
	}
	defer release()
	if s.known.current() != acc || s.known.isSaved(acc) {
		return true
	}
	done, _ := underLock(ctx, s.lock, func(ctx context.Context) (bool, error) {
		if s.isReplaced(ctx, acc.Key) {
			s.known.forget(acc) // the next caller settles it
			return true, nil
		}
		if s.save(ctx, acc.Key) != nil {
			return false, nil
		}
		s.known.publish(acc, saved)
		s.emit(audit.Event{Kind: audit.CacheWriteRecovered, CA: s.dir, Reason: currentEntry})
		return true, nil
	})
	return done
}

// isReplaced reports whether another machine has saved a later key than this one,
// which is not saved: the entries have neither it nor the one before it.
func (s *saver) isReplaced(ctx context.Context, key crypto.Signer) bool {
	current, err := s.keys.get(ctx, currentEntry)
	if err != nil || current == nil || sameKey(current, key) || s.known.isBefore(current, key) {
		return false
	}
	next, err := s.keys.get(ctx, nextEntry)
	return err == nil && !sameKey(next, key)
}
