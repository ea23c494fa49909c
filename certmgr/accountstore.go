package certmgr

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"github.com/nostall/nostall/internal/bundle"
)

// autocert's keys for the account key, and one for the key that is to take its
// place. The second one is from autocert's early versions; it is read and never
// written.
const (
	accountCacheKey       = "acme_account+key"
	legacyAccountCacheKey = "acme_account.key"
	nextAccountCacheKey   = "acme_account+key+next"
)

// savedState says whether the account's key is in its place in the cache.
type savedState bool

const (
	saved   savedState = true
	unsaved savedState = false // it is under nextAccountCacheKey only
)

// savedKeys are the account's keys: those in the Cache, and those in memory that
// the Cache should have.
type savedKeys struct {
	current crypto.Signer   // nil: there is none
	lost    bool            // current is in memory alone: its entry has gone
	isNew   bool            // current was made just now: no CA knows it
	next    []crypto.Signer // of changes that have not ended; other keys than current
	nextErr error           // why the entry of the next key cannot be used
}

func (k savedKeys) isEmpty() bool { return k.current == nil && len(k.next) == 0 && k.nextErr == nil }

// isOnly reports whether key is the account's, and no change is under way.
func (k savedKeys) isOnly(key crypto.Signer) bool {
	return sameKey(k.current, key) && len(k.next) == 0 && k.nextErr == nil
}

func (k savedKeys) equal(other savedKeys) bool {
	return sameKey(k.current, other.current) && slices.EqualFunc(k.next, other.next, sameKey)
}

// sameKey reports whether two keys, which may be nil, are the same.
func sameKey(a, b crypto.Signer) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	pub, ok := a.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(b.Public())
}

// savedKeys reads them. An entry of the next key that is damaged or cannot be read
// does no harm while the CA knows the other one.
func (a *accounts) savedKeys(ctx context.Context) (savedKeys, error) {
	var keys savedKeys
	var err error
	for _, name := range []string{accountCacheKey, legacyAccountCacheKey} {
		if keys.current, err = a.getKey(ctx, name); keys.current != nil || err != nil {
			break
		}
	}
	if err != nil {
		return savedKeys{}, err
	}
	next, err := a.getKey(ctx, nextAccountCacheKey)
	keys.nextErr = err
	// Caches evict and operators clear them: what is in memory still counts.
	a.mu.Lock()
	defer a.mu.Unlock()
	if keys.current == nil && a.last != nil {
		keys.current, keys.lost = a.last, true
	}
	keys.add(next)
	if sameKey(keys.current, a.changing.from) {
		keys.add(a.changing.to)
		if next == nil && a.changing.to != nil {
			keys.nextErr = nil
		}
	}
	return keys, nil
}

func (k *savedKeys) add(next crypto.Signer) {
	if next == nil || sameKey(next, k.current) || slices.ContainsFunc(k.next, func(o crypto.Signer) bool { return sameKey(o, next) }) {
		return // one that is current already is left over: its change has ended
	}
	k.next = append(k.next, next)
}

// getKey returns the key of an entry, or nil if there is none.
func (a *accounts) getKey(ctx context.Context, name string) (crypto.Signer, error) {
	data, err := a.getEntry(ctx, name)
	if errors.Is(err, ErrCacheMiss) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("account key: %w", err)
	}
	key, _, err := bundle.DecodeKey(data)
	if err != nil {
		loss := "to register a new account"
		if name == nextAccountCacheKey {
			loss = fmt.Sprintf("if the CA knows the account by the key under %q", accountCacheKey)
		}
		return nil, fmt.Errorf("account key in the cache under %q is damaged (%w): restore it from a backup, or delete the entry %s", name, err, loss)
	}
	return key, nil
}

func (a *accounts) getEntry(ctx context.Context, name string) ([]byte, error) {
	if a.settings.cache != nil {
		return a.store.get(ctx, name)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if data, ok := a.kept[name]; ok {
		return data, nil
	}
	return nil, ErrCacheMiss
}

func (a *accounts) putKey(ctx context.Context, name string, key crypto.Signer) error {
	var buf bytes.Buffer
	if err := bundle.EncodeKey(&buf, key); err != nil {
		return fmt.Errorf("account key: %w", err)
	}
	if a.settings.cache != nil {
		if err := a.store.put(ctx, name, buf.Bytes()); err != nil {
			return fmt.Errorf("account key: %w", err)
		}
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept == nil {
		a.kept = make(map[string][]byte)
	}
	a.kept[name] = buf.Bytes()
	return nil
}

// deleteNext deletes the entry of the next key if it is key's: another machine may
// have its own there. It may fail: the CA is asked about what is left.
func (a *accounts) deleteNext(ctx context.Context, key crypto.Signer) {
	if next, err := a.getKey(ctx, nextAccountCacheKey); err != nil || next == nil || !sameKey(next, key) {
		return
	}
	if a.settings.cache != nil {
		a.store.delete(ctx, nextAccountCacheKey)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.kept, nextAccountCacheKey)
}
