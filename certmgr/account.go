package certmgr

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

// account is an account with the CA: its key and its URL. It is immutable.
type account struct {
	key crypto.Signer
	url acme.KeyID
}

// accountConfig is what a registrar needs. Email, Binding, Prompt, Key and Store may
// be zero.
type accountConfig struct {
	CA        *acmeclient.CA
	Directory string                       // the CA's directory URL, for errors and events
	Key       crypto.Signer                // the user's account key; nil: one is made and kept in Store
	Email     string                       // the account's contact; "": none is set, and none is changed
	Binding   *acme.ExternalAccountBinding // for CAs that want one
	Prompt    func(tosURL string) bool     // accepts the terms of service
	Store     keyEntries                   // shared with other machines; nil: the key is kept in memory
	Emit      func(audit.Event)
	Tasks     *flight.Tasks
	Waiters   *flight.Waiters

	// Callout makes the bounds for one kind of callback. Whoever closes Tasks waits
	// for these callbacks too.
	Callout func(name string, limit int) *flight.Callouts
}

// registrar has the account: it registers it once, whoever asks, keeps its key and
// changes it. It is safe for concurrent use.
type registrar struct {
	*accountBase
	userKey       crypto.Signer // or nil
	keys          *keyStore
	registration  *registration
	changer       *keyChanger
	flight        *flight.Flight[string, *account]
	registrations *flight.Callouts
	changes       *flight.Callouts
}

// registerTimeout bounds one try to have an account.
const registerTimeout = 2 * time.Minute

func newRegistrar(cfg accountConfig) *registrar {
	base := &accountBase{
		ca:    cfg.CA,
		dir:   cfg.Directory,
		emit:  cfg.Emit,
		tasks: cfg.Tasks,
		turn:  newTurn(),
		known: new(knownAccount),
	}
	keys := newKeyStore(cfg.Store, base.known)
	saver := &keySaver{accountBase: base, keys: keys}
	registration := &registration{
		accountBase: base,
		settler:     &keySettler{accountBase: base, userKey: cfg.Key, keys: keys},
		saver:       saver,
		contact:     &contact{accountBase: base, email: cfg.Email, calls: cfg.Callout("account update", 1)},
		email:       cfg.Email,
		binding:     cfg.Binding,
		prompt:      cfg.Prompt,
		prompts:     cfg.Callout("Prompt", 1).FailFast(registerTimeout),
	}
	return &registrar{
		accountBase:   base,
		userKey:       cfg.Key,
		keys:          keys,
		registration:  registration,
		changer:       &keyChanger{accountBase: base, keys: keys, registration: registration, saver: saver},
		flight:        flight.Named[*account](cfg.Tasks, cfg.Waiters),
		registrations: cfg.Callout("account registration", 1).FailFast(registerTimeout),
		changes:       cfg.Callout("account key change", 1).FailFast(changeKeyTimeout + lookUpTimeout),
	}
}

// get returns the account, registering it if need be. If ctx ends first it returns a
// *flight.Left, and the registration goes on for the next caller. The error is one
// that IsUnavailable knows if the CA is not to blame.
func (r *registrar) get(ctx context.Context) (*account, error) {
	if acc := r.known.current(); acc != nil {
		return acc, nil
	}
	call, err := r.flight.Start(r.dir, func(ctx context.Context) (*account, error) {
		if acc := r.known.current(); acc != nil {
			return acc, nil
		}
		ctx, cancel := flight.Within(ctx, registerTimeout, "no account")
		defer cancel()
		// The user's key and RetryBackoff take part.
		return flight.CallOut(ctx, r.registrations, r.dir, func(ctx context.Context) (*account, error) {
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

// forget drops an account that the CA no longer knows, so that the next call of get
// registers again.
func (r *registrar) forget(acc *account) { r.known.forget(acc) }

// outdated reports whether a request signed by acc failed with err because the CA
// knows the account by another key: this process changed it meanwhile, or another
// machine did and the Store has the new key, or the CA made a change whose outcome
// was unknown. The next call of get returns the account with that key.
func (r *registrar) outdated(ctx context.Context, acc *account, trace *acmeclient.Trace, err error) bool {
	if acmeclient.IsRateLimited(err) || ctx.Err() != nil {
		return false
	}
	if r.known.current() == acc {
		if r.userKey != nil || trace.Failed() == acmeclient.EndpointNone || !refusesSigner(err) {
			return false
		}
		keys, err := r.keys.read(ctx)
		if err != nil || keys.isOnly(acc.key) {
			return false
		}
		r.forget(acc)
	}
	// A host that the CA refuses in the same words does not get a second order.
	now, err := r.get(ctx)
	return err != nil || now.url != acc.url || !sameKey(now.key, acc.key)
}

// changeKey replaces the account's key (RFC 8555, section 7.3.5). Calls at the same
// time share one change. If ctx ends first it returns a *flight.Left, and the change
// goes on. A key that is the user's is not changed.
func (r *registrar) changeKey(ctx context.Context) error {
	if r.userKey != nil {
		return errors.New("it comes from Manager.Client: " +
			"change it with acme.Client.AccountKeyRollover and start again with the new one")
	}
	call, err := r.flight.Start("account key", func(ctx context.Context) (*account, error) {
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
