package certmgr

import (
	"context"
	"errors"
)

// RollAccountKey gives the account with the CA another key (RFC 8555, section
// 7.3.5): the account, its URL and what it may do stay as they are. It returns
// when the CA uses the new key. It ends early with ctx, the change does not.
// Calls at the same time share one change.
//
// The new key is in the Cache, under "acme_account+key+next", before the CA
// hears of it, and under "acme_account+key" after that. A process that ends in
// between, or an answer of the CA that is lost, costs nothing: who finds both
// entries asks the CA which of them it knows. Issuances that are under way go on
// with the new key, and so do other machines that share the Cache once the CA
// has refused them the old one. Call it on one of them at a time.
//
// A CA may make the change long after its answer was lost. If it is not known what
// became of the change, that is an error, both keys stay in the Cache, and the CA is
// asked again when it refuses the one in use. Call RollAccountKey again: it goes on
// with the same new key.
//
// An account key that comes from Manager.Client is not changed, that is an error.
// Without a Cache the key is in memory alone, as before.
func (m *Manager) RollAccountKey(ctx context.Context) error {
	m.init()
	s := m.engine.operator
	if err := s.issuer.orders.accounts.changeKey(ctx); err != nil {
		return s.operatorError("changing the account key at "+s.dir, goesOn(err))
	}
	return nil
}

// accountEntries gives account the Cache as the store of its keys.
type accountEntries struct{ *store }

func (s accountEntries) Get(ctx context.Context, name string) ([]byte, error) {
	data, err := s.get(ctx, name)
	if errors.Is(err, ErrCacheMiss) {
		return nil, errNoEntry
	}
	return data, err
}

func (s accountEntries) Put(ctx context.Context, name string, data []byte) error {
	return s.put(ctx, name, data)
}

func (s accountEntries) Delete(ctx context.Context, name string) error { return s.delete(ctx, name) }
