package certmgr

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
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
	a := s.issuer.orders.accounts
	what := "changing the account key at " + a.dir
	if a.key != nil {
		return s.operatorError(what, errors.New("it comes from Manager.Client: "+
			"change it with acme.Client.AccountKeyRollover and start again with the new one"))
	}
	call, err := a.flight.Start("account key", func(ctx context.Context) (*account, error) {
		ctx, cancel := flight.Within(ctx, changeKeyTimeout+lookUpTimeout, "no new account key")
		defer cancel()
		return flight.CallOut(ctx, a.changes, a.dir, a.changeKey)
	})
	if err != nil {
		return s.operatorError(what, err)
	}
	if _, err := call.Await(ctx); err != nil {
		return s.operatorError(what, goesOn(err))
	}
	return nil
}

const (
	changeKeyTimeout = 2 * time.Minute // everything up to the CA's answer
	lookUpTimeout    = time.Minute     // finding out what became of a change
)

// keyChange is a change of the account's key that may have come to nothing or not.
type keyChange struct{ from, to crypto.Signer }

// changeKey is the body of RollAccountKey. At each moment the Cache holds the key
// that the CA knows, or will know, under one of two entries.
func (a *accounts) changeKey(ctx context.Context) (*account, error) {
	unlock, err := a.working.Lock(ctx, a.dir)
	if err != nil {
		return nil, fmt.Errorf("another call that concerns the account has not returned: %w", err)
	}
	defer unlock()
	in, cancel := context.WithTimeout(ctx, changeKeyTimeout)
	defer cancel()
	acc, next, err := a.upToDate(in)
	if err != nil {
		return nil, err
	}
	client := a.ca.Client(acc.key, acc.kid)
	dir, err := client.Discover(in)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", a.dir, acmeclient.Cause(err))
	}
	if dir.KeyChangeURL == "" {
		return nil, errors.New("the CA does not offer it")
	}
	resumed := next != nil
	if next, err = a.announce(in, acc, next); err != nil {
		return nil, fmt.Errorf("the CA was not asked: %w", err)
	}
	trace := new(acmeclient.Trace)
	cause := acmeclient.Cause(client.AccountKeyRollover(acmeclient.WithTrace(in, trace), next))
	changed, err := a.wasChanged(ctx, acc, next)
	switch {
	case err == nil:
		a.set(changed, unsaved)
		a.tellKey(changed, "")
		a.saveOrLater(ctx, changed)
		return changed, nil
	case errors.Is(err, errUnknownKey) && !resumed && refusedForGood(trace, cause):
		a.setChanging(keyChange{})
		a.deleteNext(ctx, next)
		return nil, fmt.Errorf("the account keeps its key: %w", cause)
	case !errors.Is(err, errUnknownKey):
		a.forget(acc) // the next one who needs the account finds out by both entries
	}
	if cause == nil {
		cause = errors.New("the CA answered that it did")
	}
	return nil, fmt.Errorf("whether the CA changed it is not known yet: %w; %w; both keys are kept, and the next change asks for the same one", cause, err)
}

// upToDate returns the account with the key that both Cache and CA have now, and the
// new key of an earlier change that is still open, or nil.
func (a *accounts) upToDate(ctx context.Context) (*account, crypto.Signer, error) {
	keys, err := a.savedKeys(ctx)
	if err == nil {
		err = keys.nextErr
	}
	if err != nil {
		return nil, nil, err
	}
	acc := a.current()
	if acc == nil || !keys.isOnly(acc.key) {
		if acc, err = a.register(ctx); err != nil {
			return nil, nil, err
		}
		if !a.isSaved(acc) { // the entry of the next key is all there is of this one
			if err := a.save(ctx, acc.key); err != nil {
				return nil, nil, err
			}
			a.set(acc, saved)
		}
		if keys, err = a.savedKeys(ctx); err != nil {
			return nil, nil, err
		}
	}
	if keys.lost { // the cache was cleared
		err = a.putKey(ctx, accountCacheKey, acc.key)
	}
	if len(keys.next) == 0 || err != nil {
		return acc, nil, err
	}
	return acc, keys.next[0], nil
}

// announce puts the new key into the Cache: next, whose change is still open, or if
// that is nil one that it makes. No other machine's is in its place then.
func (a *accounts) announce(ctx context.Context, acc *account, next crypto.Signer) (crypto.Signer, error) {
	if next == nil {
		var err error
		if next, err = bundle.GenerateKey(bundle.ECDSA); err != nil {
			return nil, err
		}
	}
	if err := a.putKey(ctx, nextAccountCacheKey, next); err != nil {
		return nil, err
	}
	now, err := a.savedKeys(ctx)
	if err == nil {
		err = now.nextErr
	}
	switch {
	case err != nil:
		return nil, err
	case len(now.next) == 0 || !sameKey(now.next[0], next) || !sameKey(now.current, acc.key):
		return nil, errors.New("the cache does not have the keys that were written: another machine seems to be changing the key too")
	}
	a.setChanging(keyChange{acc.key, next})
	return next, nil
}

var errUnknownKey = errors.New("it does not know the new key")

// wasChanged returns the account with its new key if the CA names it by that,
// whatever the answer to the change was: it may have been lost, or another's.
// It returns errUnknownKey if the CA has no account with the new key.
func (a *accounts) wasChanged(ctx context.Context, acc *account, key crypto.Signer) (*account, error) {
	kid, err := a.lookUp(ctx, key)
	switch {
	case err != nil:
		return nil, err
	case kid == "":
		return nil, errUnknownKey
	case kid == acc.kid:
		return &account{key, kid}, nil
	}
	// The CA has two URLs of one account, or two accounts.
	old, err := a.lookUp(ctx, acc.key)
	if err == nil && old != "" {
		err = fmt.Errorf("the CA knows the new key as that of another account, %s", kid)
	}
	return &account{key, kid}, err
}

func (a *accounts) tellKey(acc *account, more string) {
	reason := string(acc.kid) + more
	if thumbprint, err := acme.JWKThumbprint(acc.key.Public()); err == nil {
		reason += ", thumbprint of the new key " + thumbprint
	}
	a.audit.Emit(audit.Event{Kind: audit.AccountKeyChanged, CA: a.dir, Stage: audit.StageAccount, Reason: reason})
}

// save gives a key that the CA knows its place in the cache. Close does not cut
// it short.
func (a *accounts) save(ctx context.Context, key crypto.Signer) error {
	ctx = context.WithoutCancel(ctx)
	err := a.putKey(ctx, accountCacheKey, key)
	if err == nil {
		a.deleteNext(ctx, key)
	}
	return err
}

// saveOrLater does so.
func (a *accounts) saveOrLater(ctx context.Context, acc *account) {
	if a.save(ctx, acc.key) == nil {
		a.set(acc, saved)
		return
	}
	a.saveLater(acc)
}

// saveLater is save in the background, until it succeeds or the account has yet
// another key.
func (a *accounts) saveLater(acc *account) {
	a.tasks.Go(func(ctx context.Context) {
		flight.Retry(ctx, func(ctx context.Context) (done bool) { return a.saveAgain(ctx, acc) })
	})
}

// saveAgain reports whether there is nothing left to save.
func (a *accounts) saveAgain(ctx context.Context, acc *account) bool {
	unlock, err := a.working.Lock(ctx, a.dir)
	if err != nil {
		return true // closed
	}
	defer unlock()
	if a.current() != acc || a.isSaved(acc) {
		return true
	}
	if a.save(ctx, acc.key) != nil {
		return false
	}
	a.set(acc, saved)
	a.audit.Emit(audit.Event{Kind: audit.CacheWriteRecovered, CA: a.dir, Reason: accountCacheKey})
	return true
}
