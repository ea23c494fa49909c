package certmgr

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
)

// What is final. A CA may change the key long after a gateway has given up on the
// request, so that a CA that does not know the new key may know it in a moment, and
// it alone. These are the rules by which a key is given up:
//
//   - The change was made if the CA names the account by the new key. Only then does
//     the new key take the entry of the old one: a 200 may be that of a portal.
//   - It was not made, and will not be, if the CA does not know the new key, each
//     request was refused by a problem of ACME's with a status of 4xx, and the key
//     was made for these requests. Only then is the new key's entry deleted.
//   - All else is open, and both entries stay. Whoever needs the account uses the key
//     that the CA knows, and looks again once that one is refused. The next change
//     asks for the same new key: whichever of the requests comes through is right.
//   - The older key is asked about first: a change is atomic, so that one of them is
//     known. If none is, the account is gone, or one of the answers is out of date.
//     That is asked twice, and then the newer key registers: if the account is there
//     after all, that finds it.
const (
	// settlePause lies between the two times that the CA is asked about keys of
	// which it knows none.
	settlePause = 5 * time.Second

	// Between writing the first key and taking it to be the only one, see firstKey.
	minKeyPause = 200 * time.Millisecond
	maxKeyPause = 2 * time.Second

	maxKeyReads = 3 // of the Cache, while other machines change what is there
)

// accountKey returns the user's key, or the cache's, or makes one if the cache
// says that it has none. A key that cannot be read is an error: a new one would
// be a new account, and the old one would be lost. The account's URL is set if
// the CA is known to have it.
func (a *accounts) accountKey(ctx context.Context) (*account, savedState, error) {
	if a.key != nil {
		return &account{key: a.key}, saved, nil
	}
	for range maxKeyReads {
		keys, err := a.savedKeys(ctx)
		if err == nil && keys.isEmpty() {
			keys, err = a.firstKey(ctx)
		} else if err == nil && keys.lost {
			err = a.putKey(ctx, accountCacheKey, keys.current)
		}
		if err != nil {
			return nil, saved, localError{err}
		}
		if keys.isNew {
			return &account{key: keys.current}, saved, nil
		}
		acc, state, err := a.settle(ctx, keys)
		if err != nil || acc.kid != "" {
			return acc, state, err
		}
		// A key that the CA does not know is going to be registered, unless another
		// machine has replaced it.
		now, err := a.savedKeys(ctx)
		if err != nil {
			return nil, saved, localError{err}
		}
		if now.equal(keys) {
			return acc, state, nil
		}
	}
	return nil, saved, localError{fmt.Errorf("account key: other machines changed it in the cache %d times meanwhile", maxKeyReads)}
}

// firstKey makes a key. If another machine had the same idea at the same time, it
// returns what the cache holds.
func (a *accounts) firstKey(ctx context.Context) (savedKeys, error) {
	key, err := bundle.GenerateKey(bundle.ECDSA)
	if err != nil {
		return savedKeys{}, fmt.Errorf("account key: %w", err)
	}
	// An account whose key is lost at the next start counts against the CA's
	// limit of new accounts, so nothing is registered before it is safe.
	began := time.Now()
	if err := a.putKey(ctx, accountCacheKey, key); err != nil {
		return savedKeys{}, err
	}
	if a.settings.cache == nil {
		return savedKeys{current: key, isNew: true}, nil
	}
	// Another machine's write, which began before it could see this one, takes about
	// as long.
	if err := flight.Sleep(ctx, min(minKeyPause+2*time.Since(began), maxKeyPause)); err != nil {
		return savedKeys{}, err
	}
	if now, err := a.getKey(ctx, accountCacheKey); err == nil && now != nil && !sameKey(now, key) {
		return a.savedKeys(ctx)
	}
	return savedKeys{current: key, isNew: true}, nil
}

// settle finds out by which of the keys the CA knows the account: there are several
// after a change that did not end, or has not ended yet. The entry of a key that the
// CA does not know may be one that another machine is about to tell it of, and stays.
//
// Without a URL, the account is one that can be registered with the key.
func (a *accounts) settle(ctx context.Context, keys savedKeys) (*account, savedState, error) {
	for pause := settlePause; ; pause = 0 {
		if keys.current != nil {
			switch kid, err := a.lookUp(ctx, keys.current); {
			case err != nil && len(keys.next) == 0 && keys.nextErr == nil && isRefusal(err):
				return &account{key: keys.current}, saved, nil // the CA may not know onlyReturnExisting
			case err != nil:
				return nil, saved, err
			case kid != "":
				return &account{keys.current, kid}, saved, nil
			}
		}
		if keys.nextErr != nil {
			return nil, saved, localError{keys.nextErr}
		}
		for _, next := range keys.next {
			switch kid, err := a.lookUp(ctx, next); {
			case err != nil:
				return nil, saved, err
			case kid != "":
				acc := &account{next, kid}
				a.tellKey(acc, ", by a change that had not ended")
				return acc, unsaved, nil
			}
		}
		switch {
		case len(keys.next) == 0:
			return &account{key: keys.current}, saved, nil
		case pause == 0:
			return &account{key: keys.next[0]}, unsaved, nil
		}
		if err := flight.Sleep(ctx, pause); err != nil {
			return nil, saved, fmt.Errorf("looking up the account: %w", err)
		}
	}
}

// lookUp returns the URL of the account with this key, or "" if the CA says in so
// many words that it has none.
func (a *accounts) lookUp(ctx context.Context, key crypto.Signer) (acme.KeyID, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	acc, err := a.ca.Client(key, "").GetReg(ctx, "")
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

// refusedForGood reports whether a change of the key that failed with err was not
// made and will not be: nothing that was sent for it is without an answer, and the
// answer is the CA's own. Proxies refuse in other words, and may have let the
// request through. What is to be tried again, as a rate limit, says nothing.
func refusedForGood(trace *acmeclient.Trace, err error) bool {
	problem, ok := acmeclient.Problem(err)
	if !ok || trace.Unanswered() || !isRefusal(err) {
		return false
	}
	kind, ok := strings.CutPrefix(problem.ProblemType, "urn:ietf:params:acme:error:")
	return ok && kind != "badNonce" && kind != "rateLimited" && kind != "serverInternal"
}

// isRefusal reports whether err is an answer by which a CA refuses a request and
// not the client, the moment, or what stands in between.
func isRefusal(err error) bool {
	problem, ok := acmeclient.Problem(err)
	if !ok || acmeclient.IsRateLimited(err) {
		return false
	}
	switch problem.StatusCode {
	case http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly:
		return false
	}
	return problem.StatusCode >= 400 && problem.StatusCode <= 499
}
