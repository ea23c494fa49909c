package certmgr

import (
	"context"
	"errors"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/account"
)

// RollAccountKey replaces the key of the account with the CA (RFC 8555, section
// 7.3.5). The account, its URL and its rights stay the same. RollAccountKey
// returns when the CA uses the new key. If ctx ends first, it returns early;
// the change continues. Concurrent calls share one change.
//
// The new key is in the Cache under "acme_account+key+next" before the CA is
// asked, and under "acme_account+key" afterwards. A crash or a lost response is
// harmless: with both entries present, the CA is asked which key it knows.
// Issuances in flight continue with the new key, and so do other machines that
// share the Cache once the CA has refused them the old one. If the Cache is a
// [cache.Locker], machines that call RollAccountKey at once change the key one
// after the other. Otherwise call it on one machine at a time.
//
// A CA may make the change long after its response was lost. If the outcome is
// unknown, RollAccountKey returns an error, both keys stay in the Cache, and
// the CA is asked again when it refuses the key in use. Call RollAccountKey
// again: it asks for the same new key.
//
// A key from Manager.Client is not changed; RollAccountKey then returns an
// error. Without a Cache the key is only in memory, as before.
func (m *Manager) RollAccountKey(ctx context.Context) error {
	m.init()
	s := m.engine.operator
	if err := s.issuer.orders.accounts.ChangeKey(ctx); err != nil {
		return s.operatorError("changing the account key at "+s.dir, goesOn(err))
	}
	return nil
}

// accountEntries is the Cache as the store of the account's keys.
type accountEntries struct{ *store }

func (s accountEntries) Get(ctx context.Context, name string) ([]byte, error) {
	read := s.get
	if cache.Guarded(ctx) != nil { // a shared read may have begun before the lock was taken
		read = func(ctx context.Context, name string) ([]byte, error) { return s.read(ctx, s.reads, name) }
	}
	data, err := read(ctx, name)
	if errors.Is(err, ErrCacheMiss) {
		return nil, account.ErrNoEntry
	}
	return data, err
}

func (s accountEntries) Put(ctx context.Context, name string, data []byte) error {
	return s.put(ctx, name, data)
}

func (s accountEntries) Delete(ctx context.Context, name string) error { return s.delete(ctx, name) }
