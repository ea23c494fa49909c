package account

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
)

// settler finds out by which key the CA knows the account.
//
// After a change of the key that failed or has not ended, it may be either of
// two keys. A CA may make the change long after a gateway has given up on the
// request. So a CA that does not know the new key may know it a moment later,
// and then know no other. These are the rules on giving up a key:
//
//   - The change was made if the CA names the account by the new key. Only then
//     does the new key replace the old one's entry: a 200 may come from a portal.
//   - It was not made, and never will be, if the CA does not know the new key, all
//     requests were refused with an ACME problem and a status of 4xx, and the key
//     was generated for these requests. Only then is the new key's entry deleted.
//   - Otherwise the outcome is unknown, and both entries stay. The account is used
//     with the key that the CA knows, and looked up again when that key is
//     refused. The next change asks for the same new key: whichever of the
//     requests succeeds is right.
//   - The CA is asked about the old key first: a change is atomic, so it knows one
//     of the two. If it knows neither, the account is gone, or one of the replies
//     was out of date. So it is asked twice, and then the new key is registered:
//     if the account exists after all, that finds it.
type settler struct {
	*base
	userKey crypto.Signer // or nil
	keys    *keyStore
}

const (
	// settlePause is the wait before the CA is asked again about keys if it
	// knows none of them.
	settlePause = 5 * time.Second

	maxKeyReads = 3 // reads of the store while other machines change it

	lookUpTimeout = time.Minute // for one lookup at the CA
)

// find returns the user's key, or the store's, or generates one if the store
// has none. The account's URL is set if the CA is known to have the account. A
// key that cannot be read is an error: a new key would mean a new account, and
// the old one would be lost.
func (s *settler) find(ctx context.Context) (*Account, savedState, error) {
	if s.userKey != nil {
		return &Account{Key: s.userKey}, saved, nil
	}
	for range maxKeyReads {
		keys, err := s.readOrMake(ctx)
		if err != nil {
			return nil, saved, unavailable{err: err}
		}
		if keys.isNew {
			return &Account{Key: keys.current}, saved, nil
		}
		acc, state, err := s.settle(ctx, keys)
		if err != nil || acc.URL != "" {
			return acc, state, err
		}
		// The key is about to be registered, unless another machine has
		// replaced it.
		now, err := s.keys.read(ctx)
		if err != nil {
			return nil, saved, unavailable{err: err}
		}
		if now.equal(keys) {
			return acc, state, nil
		}
	}
	return nil, saved, unavailable{err: fmt.Errorf("account key: other machines changed it in the cache %d times meanwhile", maxKeyReads)}
}

// findSettled returns the account if the Store has one key, and the CA knows that.
// It changes nothing. Otherwise it returns nil: find looks closer.
func (s *settler) findSettled(ctx context.Context) (*Account, error) {
	keys, err := s.keys.read(ctx)
	switch {
	case err != nil:
		return nil, unavailable{err: err}
	case keys.current == nil || keys.lost || keys.surplus || !keys.isOnly(keys.current):
		return nil, nil
	}
	url, err := s.lookUp(ctx, keys.current)
	switch {
	case err != nil && isRefusal(err), err == nil && url == "":
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &Account{keys.current, url}, nil
}

// readOrMake returns the keys, generating one if there is none. The current key
// is then in the store.
func (s *settler) readOrMake(ctx context.Context) (savedKeys, error) {
	keys, err := s.keys.read(ctx)
	switch {
	case err != nil:
		return savedKeys{}, err
	case keys.isEmpty():
		return s.keys.first(ctx)
	case keys.lost:
		err = s.keys.put(ctx, currentEntry, keys.current)
	}
	return keys, err
}

// settle finds out by which of the keys the CA knows the account. It keeps the
// entry of a next key that the CA does not know: another machine may be about
// to ask for that change.
//
// An account without a URL can be registered with its key.
func (s *settler) settle(ctx context.Context, keys savedKeys) (*Account, savedState, error) {
	for pause := settlePause; ; pause = 0 {
		acc, err := s.byCurrent(ctx, keys)
		if acc != nil || err != nil {
			return acc, saved, err
		}
		if acc, err = s.byNext(ctx, keys); acc != nil || err != nil {
			return acc, unsaved, err
		}
		switch {
		case len(keys.next) == 0:
			return &Account{Key: keys.current}, saved, nil
		case pause == 0:
			return &Account{Key: keys.next[0]}, unsaved, nil
		}
		if err := flight.Sleep(ctx, pause); err != nil {
			return nil, saved, fmt.Errorf("looking up the account: %w", err)
		}
	}
}

// byCurrent returns the account of the current key, or nil if the CA does not
// know the key.
func (s *settler) byCurrent(ctx context.Context, keys savedKeys) (*Account, error) {
	if keys.current == nil {
		return nil, nil
	}
	url, err := s.lookUp(ctx, keys.current)
	switch {
	case err != nil && len(keys.next) == 0 && isRefusal(err) && s.keys.hasNoNext(ctx, keys):
		return &Account{Key: keys.current}, nil // the CA may not support onlyReturnExisting
	case err != nil:
		return nil, err
	case url == "":
		return nil, nil
	case keys.surplus: // the change of the key ended, except for this
		s.keys.deleteNext(context.WithoutCancel(ctx), keys.current)
	}
	return &Account{keys.current, url}, nil
}

// byNext returns the account of the first next key that the CA knows, or nil.
func (s *settler) byNext(ctx context.Context, keys savedKeys) (*Account, error) {
	if keys.nextErr != nil && !s.keys.hasNoNext(ctx, keys) {
		return nil, unavailable{err: keys.nextErr}
	}
	for _, next := range keys.next {
		switch url, err := s.lookUp(ctx, next); {
		case err != nil:
			return nil, err
		case url != "":
			acc := &Account{next, url}
			s.tellChanged(acc, ", by a change that had not ended")
			return acc, nil
		}
	}
	return nil, nil
}

// lookUp returns the URL of the account with this key, or "" if the CA says
// explicitly that there is none.
func (b *base) lookUp(ctx context.Context, key crypto.Signer) (acme.KeyID, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	acc, err := b.ca.Client(key, "").GetReg(ctx, "")
	switch {
	case errors.Is(err, acme.ErrNoAccount):
		return "", nil
	case err == nil && acc.URI == "":
		err = errors.New("the CA's answer does not name it")
	}
	if err != nil {
		return "", fmt.Errorf("looking up the account: %w", acmeclient.Cause(err))
	}
	return acme.KeyID(acc.URI), nil
}

// tellChanged emits the event of a changed key. more is appended to the URL in
// its reason.
func (b *base) tellChanged(acc *Account, more string) {
	reason := string(acc.URL) + more
	if thumbprint, err := acme.JWKThumbprint(acc.Key.Public()); err == nil {
		reason += ", thumbprint of the new key " + thumbprint
	}
	b.tell(audit.Event{Kind: audit.AccountKeyChanged, Reason: reason})
}
