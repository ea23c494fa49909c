package account

import (
	"context"
	"crypto"
	"errors"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
)

// Account is an account with the CA: its key and its URL. It is immutable.
type Account struct {
	Key crypto.Signer
	URL acme.KeyID
}

// Config is what a Registrar is made of. Key, Email, Binding, Prompt and Store may be
// zero.
type Config struct {
	CA        *acmeclient.CA
	Directory string                       // the CA's directory URL, for errors and events
	Key       crypto.Signer                // the user's account key; nil: one is made and kept in Store
	Email     string                       // the account's contact; "": whatever it is, it stays
	Binding   *acme.ExternalAccountBinding // for CAs that require one
	Prompt    func(tosURL string) bool     // accepts the terms of service
	Store     Store                        // shared with other machines; nil: keys are kept in memory
	Emit      func(audit.Event)            // must not block
	Tasks     *flight.Tasks
	Waiters   *flight.Waiters

	// Callout makes the bounds for one kind of callback. Whoever closes Tasks waits
	// for these callbacks as well.
	Callout func(name string, limit int) *flight.Callouts
}

// Registrar registers one account with a CA, once for all who ask, and keeps and changes
// its key. It is safe for concurrent use.
type Registrar struct {
	*base
	userKey       crypto.Signer // or nil
	keys          *keyStore
	registration  *registration
	changer       *changer
	flight        *flight.Flight[string, *Account]
	registrations *flight.Callouts
	changes       *flight.Callouts
}

// registerTimeout bounds one try to have an account.
const registerTimeout = 2 * time.Minute

// New returns a Registrar that has no account yet. Its goroutines are those of
// cfg.Tasks and of the callbacks that cfg.Callout made the bounds for.
func New(cfg Config) *Registrar {
	b := &base{
		ca:    cfg.CA,
		dir:   cfg.Directory,
		emit:  cfg.Emit,
		tasks: cfg.Tasks,
		turn:  newTurn(),
		known: new(known),
	}
	keys := newKeyStore(cfg.Store, b.known)
	save := &saver{base: b, keys: keys}
	reg := &registration{
		base:    b,
		settler: &settler{base: b, userKey: cfg.Key, keys: keys},
		saver:   save,
		contact: &contact{base: b, email: cfg.Email, calls: cfg.Callout("account update", 1)},
		email:   cfg.Email,
		binding: cfg.Binding,
		prompt:  cfg.Prompt,
		prompts: cfg.Callout("Prompt", 1).FailFast(registerTimeout),
	}
	return &Registrar{
		base:          b,
		userKey:       cfg.Key,
		keys:          keys,
		registration:  reg,
		changer:       &changer{base: b, keys: keys, registration: reg, saver: save},
		flight:        flight.Named[*Account](cfg.Tasks, cfg.Waiters),
		registrations: cfg.Callout("account registration", 1).FailFast(registerTimeout),
		changes:       cfg.Callout("account key change", 1).FailFast(changeKeyTimeout + lookUpTimeout),
	}
}

// Get returns the account, registering it if need be. If ctx ends first it returns a
// *flight.Left, and the registration goes on for the next caller. The error is one
// that IsUnavailable knows if the CA is not to blame.
func (r *Registrar) Get(ctx context.Context) (*Account, error) {
	if acc := r.known.current(); acc != nil {
		return acc, nil
	}
	call, err := r.flight.Start(r.dir, func(ctx context.Context) (*Account, error) {
		if acc := r.known.current(); acc != nil {
			return acc, nil
		}
		ctx, cancel := flight.Within(ctx, registerTimeout, "no account")
		defer cancel()
		// The user's key and RetryBackoff take part.
		return flight.CallOut(ctx, r.registrations, r.dir, func(ctx context.Context) (*Account, error) {
			release, err := r.turn.take(ctx)
			if err != nil {
				return nil, err
			}
			defer release()
			if acc := r.known.current(); acc != nil {
				return acc, nil
			}
			return r.registration.register(ctx)
		})
	})
	if err != nil {
		return nil, err
	}
	// Attempts wait here, not handshakes: their number is bounded.
	return call.Await(ctx)
}

// Forget drops an account that the CA no longer knows, so that the next call of Get
// registers again.
func (r *Registrar) Forget(acc *Account) { r.known.forget(acc) }

// Outdated reports whether a request signed by acc failed with err because the CA
// knows the account by another key: this process changed it meanwhile, or another
// machine did and the Store has the new key, or the CA made a change whose outcome
// was unknown. The next call of Get returns the account with that key.
func (r *Registrar) Outdated(ctx context.Context, acc *Account, trace *acmeclient.Trace, err error) bool {
	if acmeclient.IsRateLimited(err) || ctx.Err() != nil {
		return false
	}
	if r.known.current() == acc {
		if r.userKey != nil || trace.Failed() == acmeclient.EndpointNone || !refusesSigner(err) {
			return false
		}
		keys, err := r.keys.read(ctx)
		if err != nil || keys.isOnly(acc.Key) {
			return false
		}
		r.Forget(acc)
	}
	// A host that the CA refuses in the same words does not get a second order.
	now, err := r.Get(ctx)
	return err != nil || now.URL != acc.URL || !sameKey(now.Key, acc.Key)
}

// ChangeKey replaces the account's key (RFC 8555, section 7.3.5). Calls at the same
// time share one change. If ctx ends first it returns a *flight.Left, and the change
// goes on. A key that is the user's is not changed.
func (r *Registrar) ChangeKey(ctx context.Context) error {
	if r.userKey != nil {
		return errors.New("it comes from Manager.Client: " +
			"change it with acme.Client.AccountKeyRollover and start again with the new one")
	}
	call, err := r.flight.Start("account key", func(ctx context.Context) (*Account, error) {
		ctx, cancel := flight.Within(ctx, changeKeyTimeout+lookUpTimeout, "no new account key")
		defer cancel()
		return flight.CallOut(ctx, r.changes, r.dir, r.changer.change)
	})
	if err != nil {
		return err
	}
	_, err = call.Await(ctx)
	return err
}
