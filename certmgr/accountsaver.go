package certmgr

import (
	"context"
	"crypto"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
)

// keySaver puts a key that the CA knows in its place in the store: it takes the entry
// of the old key, and then the entry of the next key is deleted.
type keySaver struct {
	*accountBase
	keys *keyStore
}

// save does so once. The end of ctx does not cut it short.
func (s *keySaver) save(ctx context.Context, key crypto.Signer) error {
	ctx = context.WithoutCancel(ctx)
	err := s.keys.put(ctx, accountCacheKey, key)
	if err == nil {
		s.keys.deleteNext(ctx, key)
	}
	return err
}

// saveOrLater saves acc's key now or, if that fails, in the background until it
// succeeds or another account is in use. The turn is held.
func (s *keySaver) saveOrLater(ctx context.Context, acc *account) {
	if s.save(ctx, acc.key) == nil {
		s.known.publish(acc, saved)
		return
	}
	s.tasks.Go(func(ctx context.Context) {
		flight.Retry(ctx, func(ctx context.Context) (done bool) { return s.saveAgain(ctx, acc) })
	})
}

// saveAgain reports whether there is nothing left to save.
func (s *keySaver) saveAgain(ctx context.Context, acc *account) bool {
	release, err := s.turn.take(ctx)
	if err != nil {
		return true // closed
	}
	defer release()
	if s.known.current() != acc || s.known.isSaved(acc) {
		return true
	}
	if s.save(ctx, acc.key) != nil {
		return false
	}
	s.known.publish(acc, saved)
	s.emit(audit.Event{Kind: audit.CacheWriteRecovered, CA: s.dir, Reason: accountCacheKey})
	return true
}
