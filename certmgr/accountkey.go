package certmgr

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
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
// An account key that comes from Manager.Client is not changed, that is an error.
// Without a Cache the key is in memory alone, as before.
func (m *Manager) RollAccountKey(ctx context.Context) error {
	m.init()
	s := m.stages
	a := s.issuer.accounts
	what := "changing the account key at " + a.dir
	if a.key != nil {
		return s.operatorError(what, errors.New("it comes from Manager.Client: "+
			"change it with acme.Client.AccountKeyRollover and start again with the new one"))
	}
	call, _, err := a.flight.start("account key", func(ctx context.Context) (*account, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, changeKeyTimeout+lookUpTimeout,
			fmt.Errorf("no new account key within %v: %w", changeKeyTimeout+lookUpTimeout, context.DeadlineExceeded))
		defer cancel()
		return callOut(ctx, a.changes, a.dir, a.changeKey)
	})
	if err != nil {
		return s.operatorError(what, err)
	}
	select {
	case <-call.done:
		err = call.err
	case <-ctx.Done():
		err = fmt.Errorf("it goes on: %w", context.Cause(ctx))
	}
	if err != nil {
		return s.operatorError(what, err)
	}
	return nil
}

const (
	changeKeyTimeout = 2 * time.Minute // everything up to the CA's answer
	lookUpTimeout    = time.Minute     // finding out what became of a change
)

// changeKey is the body of RollAccountKey. At each moment the Cache holds the key
// that the CA knows, or will know, under one of two entries.
func (a *accounts) changeKey(ctx context.Context) (*account, error) {
	unlock, err := a.working.lock(ctx, a.dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	in, cancel := context.WithTimeout(ctx, changeKeyTimeout)
	defer cancel()
	acc, err := a.upToDate(in)
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
	key, err := generateKey(keyECDSA)
	if err != nil {
		return nil, err
	}
	if err := a.putKey(in, nextAccountCacheKey, key); err != nil {
		return nil, fmt.Errorf("the CA was not asked: %w", err)
	}
	if err := client.AccountKeyRollover(in, key); err != nil {
		if err := a.wasChanged(ctx, acc, key, acmeclient.Cause(err)); err != nil {
			return nil, err
		}
	}
	next := &account{key: key, kid: acc.kid}
	a.set(next, unsaved)
	a.tellKey(next, "")
	if a.save(ctx, key) == nil {
		a.set(next, saved)
	} else {
		a.saveLater(next)
	}
	return next, nil
}

// upToDate returns the account with the key that both Cache and CA have now, so
// that the entry of the next key is free.
func (a *accounts) upToDate(ctx context.Context) (*account, error) {
	keys, err := a.savedKeys(ctx)
	if err == nil {
		err = keys.nextErr
	}
	if err != nil {
		return nil, err
	}
	acc := a.current()
	switch {
	case acc != nil && keys.isOnly(acc.key):
		return acc, nil
	case acc != nil && keys.isEmpty(): // the cache was cleared
		return acc, a.putKey(ctx, accountCacheKey, acc.key)
	}
	if acc, err = a.register(ctx); err != nil {
		return nil, err
	}
	if !a.isSaved(acc) { // the entry of the next key is all there is of this one
		if err := a.save(ctx, acc.key); err != nil {
			return nil, err
		}
		a.set(acc, saved)
	}
	return acc, nil
}

// wasChanged returns nil if the CA changed the key although its answer, whose
// error is cause, does not say so: it may have been lost.
func (a *accounts) wasChanged(ctx context.Context, acc *account, key crypto.Signer, cause error) error {
	kid, err := a.lookUp(ctx, key)
	switch {
	case err != nil:
		a.forget(acc) // the next one who needs the account finds out by both entries
		return fmt.Errorf("whether the CA did it is not known yet: %w; %w", cause, err)
	case kid == acc.kid:
		return nil
	}
	a.deleteKey(ctx, nextAccountCacheKey)
	return fmt.Errorf("the account keeps its key: %w", cause)
}

func (a *accounts) tellKey(acc *account, more string) {
	reason := string(acc.kid) + more
	if thumbprint, err := acme.JWKThumbprint(acc.key.Public()); err == nil {
		reason += ", thumbprint of the new key " + thumbprint
	}
	a.audit.emit(Event{Kind: EventAccountKey, CA: a.dir, Stage: StageAccount, Reason: reason})
}

// save gives a key that the CA knows its place in the cache. Close does not cut
// it short.
func (a *accounts) save(ctx context.Context, key crypto.Signer) error {
	ctx = context.WithoutCancel(ctx)
	err := a.putKey(ctx, accountCacheKey, key)
	if err == nil {
		a.deleteKey(ctx, nextAccountCacheKey)
	}
	return err
}

// saveLater is save in the background, until it succeeds or the account has yet
// another key.
func (a *accounts) saveLater(acc *account) {
	a.tasks.Go(func(ctx context.Context) {
		for wait := 10 * time.Second; ; wait = min(2*wait, 10*time.Minute) {
			if sleep(ctx, jitter(wait)) != nil || a.saveAgain(ctx, acc) {
				return
			}
		}
	})
}

// saveAgain reports whether there is nothing left to save.
func (a *accounts) saveAgain(ctx context.Context, acc *account) bool {
	unlock, err := a.working.lock(ctx, a.dir)
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
	a.audit.emit(Event{Kind: EventCacheWritten, CA: a.dir, Reason: accountCacheKey})
	return true
}
