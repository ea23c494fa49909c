package certmgr

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
)

// autocert's keys for the account key. The second one is from its early
// versions; it is read and never written.
const (
	accountCacheKey       = "acme_account+key"
	legacyAccountCacheKey = "acme_account.key"
)

// account is a key that is registered with the CA, and the account's URL.
type account struct {
	key crypto.Signer
	kid acme.KeyID
}

// accounts registers the one account of a Manager once, whoever asks.
type accounts struct {
	m      *Manager
	ca     *acmeclient.CA
	dir    string        // directory URL
	key    crypto.Signer // Manager.Client.Key; nil: kept in the cache
	store  *store
	audit  *auditor
	prompt *callouts
	calls  *callouts // registrations
	flight *flight[*account]

	mu    sync.Mutex
	ready *account
}

// registerTimeout bounds one try to have an account.
const registerTimeout = 2 * time.Minute

// get returns the account, registering it if need be. The registration goes on
// if ctx ends, for the next one who asks.
func (a *accounts) get(ctx context.Context) (*account, error) {
	if acc := a.current(); acc != nil {
		return acc, nil
	}
	call, _, err := a.flight.start(a.dir, func(ctx context.Context) (*account, error) {
		if acc := a.current(); acc != nil {
			return acc, nil
		}
		ctx, cancel := context.WithTimeoutCause(ctx, registerTimeout,
			fmt.Errorf("no account within %v: %w", registerTimeout, context.DeadlineExceeded))
		defer cancel()
		// The user's key and RetryBackoff take part.
		acc, err := callOut(ctx, a.calls, a.dir, a.register)
		if err == nil {
			a.mu.Lock()
			a.ready = acc
			a.mu.Unlock()
		}
		return acc, err
	})
	if err != nil {
		return nil, err
	}
	// Attempts wait here, not handshakes: MaxIssuing bounds them.
	return call.await(ctx, nil)
}

func (a *accounts) current() *account {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ready
}

// forget drops an account that the CA does not know any more, so that the next
// attempt registers again.
func (a *accounts) forget(acc *account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ready == acc {
		a.ready = nil
	}
}

func (a *accounts) register(ctx context.Context) (*account, error) {
	key, err := a.accountKey(ctx)
	if err != nil {
		return nil, localError{err}
	}
	client := a.ca.Client(key, "")
	dir, err := client.Discover(ctx)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", a.dir, acmeclient.Cause(err))
	}
	agreed, err := a.askTerms(ctx, dir.Terms)
	if err != nil {
		return nil, localError{err}
	}
	req := &acme.Account{ExternalAccountBinding: a.m.ExternalAccountBinding}
	if a.m.Email != "" {
		req.Contact = []string{"mailto:" + a.m.Email}
	}
	_, err = client.Register(ctx, req, func(string) bool { return agreed })
	if err != nil && !isAccountExists(err) {
		return nil, fmt.Errorf("registering an account: %w%s", acmeclient.Cause(err), a.registerHint(dir, agreed))
	}
	if client.KID == "" {
		// A CA that answers 409 for a known key has not named the account.
		known, err := client.GetReg(ctx, "")
		if err != nil {
			return nil, fmt.Errorf("looking up the account: %w", acmeclient.Cause(err))
		}
		client.KID = acme.KeyID(known.URI)
	}
	a.audit.emit(Event{Kind: EventAccount, CA: a.dir, Stage: StageAccount, Reason: string(client.KID)})
	return &account{key: key, kid: client.KID}, nil
}

// askTerms asks Manager.Prompt before x/crypto/acme would do so under a lock.
func (a *accounts) askTerms(ctx context.Context, terms string) (bool, error) {
	if terms == "" {
		return false, nil
	}
	prompt := a.m.Prompt
	if prompt == nil {
		return false, fmt.Errorf("the CA's terms of service at %s have to be accepted; set Manager.Prompt, for example to AcceptTOS", terms)
	}
	return callOut(ctx, a.prompt, terms, func(context.Context) (bool, error) { return prompt(terms), nil })
}

func (a *accounts) registerHint(dir acme.Directory, agreed bool) string {
	switch {
	case dir.Terms != "" && !agreed:
		return " (Manager.Prompt did not accept the terms of service at " + dir.Terms + ")"
	case dir.ExternalAccountRequired && a.m.ExternalAccountBinding == nil:
		return " (the CA needs Manager.ExternalAccountBinding)"
	}
	return ""
}

func isAccountExists(err error) bool {
	if errors.Is(err, acme.ErrAccountAlreadyExists) {
		return true
	}
	e, ok := errors.AsType[*acme.Error](err)
	return ok && e.StatusCode == http.StatusConflict
}

// isAccountGone reports whether the CA does not know (any more) the account
// that a request was signed with.
func isAccountGone(err error) bool {
	e, ok := errors.AsType[*acme.Error](err)
	return ok && e.ProblemType == "urn:ietf:params:acme:error:accountDoesNotExist"
}

// accountKey returns the user's key, or the cache's, or makes one if the cache
// says that it has none. A key that cannot be read is an error: a new one
// would be a new account, and the old one would be lost.
func (a *accounts) accountKey(ctx context.Context) (crypto.Signer, error) {
	if a.key != nil {
		return a.key, nil
	}
	for _, name := range []string{accountCacheKey, legacyAccountCacheKey} {
		data, err := a.store.get(ctx, name)
		if errors.Is(err, ErrCacheMiss) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("account key: %w", err)
		}
		key, _, err := decodeKey(data)
		if err != nil {
			return nil, fmt.Errorf("account key in the cache under %q is damaged (%w): restore it from a backup, "+
				"or delete the entry to register a new account", name, err)
		}
		return key, nil
	}
	key, err := generateKey(keyECDSA)
	if err != nil {
		return nil, fmt.Errorf("account key: %w", err)
	}
	var buf bytes.Buffer
	if err := encodeKey(&buf, key); err != nil {
		return nil, fmt.Errorf("account key: %w", err)
	}
	// An account whose key is lost at the next start counts against the CA's
	// limit of new accounts, so nothing is registered before it is safe.
	if err := a.store.put(ctx, accountCacheKey, buf.Bytes()); err != nil {
		return nil, fmt.Errorf("account key: %w", err)
	}
	return key, nil
}
