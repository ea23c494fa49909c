package account

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
)

// changeKeyTimeout is the time-out of a change of the key, up to the CA's
// response.
const changeKeyTimeout = 2 * time.Minute

// changer changes the account's key. At all times the store holds the key that
// the CA knows, or will know, in one of two entries; see settler for the rules
// on giving up a key.
type changer struct {
	*base
	keys         *keyStore
	registration *registration
	saver        *saver
}

// keyChange is a change of the account's key whose outcome may be unknown.
type keyChange struct{ from, to crypto.Signer }

// change changes the key at the CA and returns the account with the new one.
func (c *changer) change(ctx context.Context) (*Account, error) {
	release, err := c.turn.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return underLock(ctx, c.lock, c.changeAlone)
}

// changeAlone is change while the turn and the lock are held.
func (c *changer) changeAlone(ctx context.Context) (*Account, error) {
	askCtx, cancel := context.WithTimeout(ctx, changeKeyTimeout)
	defer cancel()
	acc, next, err := c.upToDate(askCtx)
	if err != nil {
		return nil, err
	}
	client := c.client(acc)
	dir, err := c.discover(askCtx, client)
	if err != nil {
		return nil, err
	}
	if dir.KeyChangeURL == "" {
		return nil, errors.New("the CA does not support it")
	}
	resumed := next != nil
	if next, err = c.announce(askCtx, acc, next); err != nil {
		return nil, fmt.Errorf("the CA was not asked: %w", err)
	}
	trace := new(acmeclient.Trace)
	cause := acmeclient.Cause(client.AccountKeyRollover(acmeclient.WithTrace(askCtx, trace), next))
	changed, err := c.lookUpChanged(ctx, acc, next)
	switch {
	case err == nil:
		c.known.publish(changed, unsaved)
		c.tellChanged(changed, "")
		c.saver.saveOrLater(ctx, changed)
		return changed, nil
	case errors.Is(err, errUnknownKey) && !resumed && refusedForGood(trace, cause):
		c.known.noteChange(keyChange{})
		c.keys.deleteNext(ctx, next)
		return nil, fmt.Errorf("the account keeps its key: %w", cause)
	case !errors.Is(err, errUnknownKey):
		c.known.forget(acc) // the next caller settles it from both entries
	}
	if cause == nil {
		cause = errors.New("the CA reported success")
	}
	return nil, fmt.Errorf("it is unknown whether the CA changed it: %w; %w; both keys are kept, and the next change asks for the same new key", cause, err)
}

// upToDate returns the account with the key that store and CA agree on, and the
// new key of an earlier change with an unknown outcome, or nil.
func (c *changer) upToDate(ctx context.Context) (*Account, crypto.Signer, error) {
	keys, err := c.readAll(ctx)
	if err != nil {
		return nil, nil, err
	}
	acc := c.known.current()
	if acc == nil || !keys.isOnly(acc.Key) {
		if acc, err = c.registration.register(ctx); err != nil {
			return nil, nil, err
		}
		if !c.known.isSaved(acc) { // this key exists only in the entry of the next key
			if err := c.saver.save(ctx, acc.Key); err != nil {
				return nil, nil, err
			}
			c.known.publish(acc, saved)
		}
		if keys, err = c.keys.read(ctx); err != nil {
			return nil, nil, err
		}
	}
	if keys.lost { // the store was cleared
		err = c.keys.put(ctx, currentEntry, acc.Key)
	}
	if len(keys.next) == 0 || err != nil {
		return acc, nil, err
	}
	return acc, keys.next[0], nil
}

// readAll returns the keys, or an error if one of them is unusable.
func (c *changer) readAll(ctx context.Context) (savedKeys, error) {
	keys, err := c.keys.read(ctx)
	if err == nil {
		err = keys.nextErr
	}
	return keys, err
}

// announce writes the new key to the entry of the next key: next, if the
// outcome of its change is unknown, or else a new one. It fails if another
// machine wrote there meanwhile.
func (c *changer) announce(ctx context.Context, acc *Account, next crypto.Signer) (crypto.Signer, error) {
	if next == nil {
		var err error
		if next, err = bundle.GenerateKey(bundle.P256); err != nil {
			return nil, err
		}
	}
	if err := c.keys.put(ctx, nextEntry, next); err != nil {
		return nil, err
	}
	now, err := c.readAll(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(now.next) == 0 || !sameKey(now.next[0], next) || !sameKey(now.current, acc.Key):
		return nil, errors.New("the cache does not have the keys that were written: another machine seems to be changing the key too")
	}
	c.known.noteChange(keyChange{acc.Key, next})
	return next, nil
}

var errUnknownKey = errors.New("the CA does not know the new key")

// lookUpChanged returns the account with its new key if the CA knows the
// account by that key. The reply to the change does not matter: it may have
// been lost, or may not be the CA's. The error is errUnknownKey if the CA has
// no account with the new key.
func (c *changer) lookUpChanged(ctx context.Context, acc *Account, key crypto.Signer) (*Account, error) {
	url, err := c.lookUp(ctx, key)
	switch {
	case err != nil:
		return nil, err
	case url == "":
		return nil, errUnknownKey
	case url == acc.URL:
		return &Account{key, url}, nil
	}
	// The CA has two URLs for one account, or two accounts.
	old, err := c.lookUp(ctx, acc.Key)
	if err == nil && old != "" {
		err = fmt.Errorf("the CA knows the new key as that of another account, %s", url)
	}
	return &Account{key, url}, err
}
