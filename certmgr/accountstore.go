package certmgr

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
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

// accountKey returns the user's key, or the cache's, or makes one if the cache
// says that it has none. A key that cannot be read is an error: a new one would
// be a new account, and the old one would be lost.
func (a *accounts) accountKey(ctx context.Context) (crypto.Signer, savedState, error) {
	if a.key != nil {
		return a.key, saved, nil
	}
	keys, err := a.savedKeys(ctx)
	if err != nil {
		return nil, saved, localError{err}
	}
	key, state := keys.current, saved
	if keys.next != nil || keys.nextErr != nil {
		key, state, err = a.settle(ctx, keys)
	}
	if key != nil || err != nil {
		return key, state, err
	}
	if key, err = generateKey(keyECDSA); err != nil {
		return nil, saved, localError{fmt.Errorf("account key: %w", err)}
	}
	// An account whose key is lost at the next start counts against the CA's
	// limit of new accounts, so nothing is registered before it is safe.
	if err := a.putKey(ctx, accountCacheKey, key); err != nil {
		return nil, saved, localError{err}
	}
	return key, saved, nil
}

// settle finds out by which of two keys the CA knows the account after a change
// that did not end, or has not ended yet: the entry of a key that the CA does not
// know may be one that another machine is about to tell it of, and stays. The
// next change replaces it.
//
// The key is nil if there is none that could be the account's.
func (a *accounts) settle(ctx context.Context, keys savedKeys) (crypto.Signer, savedState, error) {
	if keys.current != nil {
		switch kid, err := a.lookUp(ctx, keys.current); {
		case err != nil:
			return nil, saved, err
		case kid != "":
			return keys.current, saved, nil
		}
	}
	if keys.nextErr != nil {
		return nil, saved, localError{keys.nextErr}
	}
	// The CA does not know the current one any more, so that this is final.
	kid, err := a.lookUp(ctx, keys.next)
	if err != nil {
		return nil, saved, err
	}
	if kid == "" {
		return keys.current, saved, nil
	}
	a.tellKey(&account{keys.next, kid}, ", by a change that had not ended")
	if a.save(ctx, keys.next) != nil {
		return keys.next, unsaved, nil
	}
	return keys.next, saved, nil
}

// lookUp returns the URL of the account with this key, or "" if the CA has none.
func (a *accounts) lookUp(ctx context.Context, key crypto.Signer) (acme.KeyID, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	acc, err := a.ca.Client(key, "").GetReg(ctx, "")
	switch {
	case errors.Is(err, acme.ErrNoAccount):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("looking up the account: %w", acmeclient.Cause(err))
	}
	return acme.KeyID(acc.URI), nil
}

// savedKeys are the account's keys in the cache; nil where there is none.
type savedKeys struct {
	current crypto.Signer
	next    crypto.Signer // of a change that has not ended
	nextErr error         // why its entry cannot be used
}

func (k savedKeys) isEmpty() bool { return k.current == nil && k.next == nil && k.nextErr == nil }

// isOnly reports whether key is what the cache has, and no change is under way.
func (k savedKeys) isOnly(key crypto.Signer) bool {
	if k.current == nil || k.next != nil || k.nextErr != nil {
		return false
	}
	pub, ok := k.current.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(key.Public())
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
	keys.next, keys.nextErr = a.getKey(ctx, nextAccountCacheKey)
	return keys, nil
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
	key, _, err := decodeKey(data)
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
	if a.m.Cache != nil {
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
	if err := encodeKey(&buf, key); err != nil {
		return fmt.Errorf("account key: %w", err)
	}
	if a.m.Cache != nil {
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

// deleteKey may fail: the CA is asked about what is left.
func (a *accounts) deleteKey(ctx context.Context, name string) {
	if a.m.Cache != nil {
		a.store.delete(ctx, name)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.kept, name)
}
