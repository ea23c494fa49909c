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

// is reports whether the accounts, of which a may be nil, have the same URL and
// key.
func (a *Account) is(other *Account) bool {
	return a != nil && a.URL == other.URL && sameKey(a.Key, other.Key)
}

// Config configures a Registrar. Key, Email, Binding, Prompt, Store and Lock may
// be zero.
type Config struct {
	CA        *acmeclient.CA
	Directory string                       // the CA's directory URL, as in CA
	PlainHTTP bool                         // plain http to another machine is accepted, as in CA
	UserAgent string                       // as in CA
	Key       crypto.Signer                // the user's account key; nil means that one is generated and kept in Store
	Email     string                       // the account's contact; "" leaves it unchanged
	Binding   *acme.ExternalAccountBinding // for CAs that require one
	Prompt    func(tosURL string) bool     // accepts the terms of service
	Store     Store                        // shared with other machines; nil means that keys are kept in memory
	Lock      Lock                         // nil means that machines with the same Store may register at once
	Emit      func(audit.Event)            // must not block
	Tasks     *flight.Tasks
	Waiters   *flight.Waiters

	// Callout creates the Callouts for one kind of callback. The owner of Tasks
	// waits for these callbacks too.
	Callout func(name string, limit int) *flight.Callouts
}

// Registrar registers one account with a CA, once for all callers, and stores
// and changes its key. It is safe for concurrent use.
type Registrar struct {
	*base
	userKey       crypto.Signer // or nil
	keys          *keyStore
	blame         *blame
	registration  *registration
	changer       *changer
	flight        *flight.Flight[string, *Account]
	registrations *flight.Callouts
	changes       *flight.Callouts
}

// registerTimeout is the time-out of one try to get an account.
const registerTimeout = 2 * time.Minute

// New returns a Registrar that has no account yet. It starts goroutines only
// through cfg.Tasks and the Callouts from cfg.Callout.
func New(cfg Config) *Registrar {
	b := &base{
		ca:    cfg.CA,
		dir:   cfg.Directory,
		emit:  cfg.Emit,
		tasks: cfg.Tasks,
		turn:  newTurn(),
		lock:  sharedLock(cfg),
		known: new(known),
	}
	set := settings{
		directory: cfg.Directory,
		plainHTTP: cfg.PlainHTTP,
		userAgent: cfg.UserAgent,
		key:       cfg.Key,
		email:     cfg.Email,
		binding:   cfg.Binding,
	}
	keys := newKeyStore(cfg.Store, b.known)
	keys.locked = b.lock != nil
	save := &saver{base: b, keys: keys}
	blame := &blame{base: b, settings: set, shared: keys.shared}
	reg := &registration{
		base:     b,
		settings: set,
		settler:  &settler{base: b, userKey: userSigner(cfg.Key), keys: keys},
		saver:    save,
		contact:  &contact{base: b, email: cfg.Email, blame: blame, calls: cfg.Callout("account update", 1)},
		blame:    blame,
		prompt:   cfg.Prompt,
		prompts:  cfg.Callout("Prompt", 1).FailFast(registerTimeout),
	}
	return &Registrar{
		base:          b,
		userKey:       cfg.Key,
		keys:          keys,
		blame:         blame,
		registration:  reg,
		changer:       &changer{base: b, keys: keys, registration: reg, saver: save},
		flight:        flight.Named[*Account](cfg.Tasks, cfg.Waiters),
		registrations: cfg.Callout("account registration", 1).FailFast(registerTimeout),
		changes:       cfg.Callout("account key change", 1).FailFast(changeKeyTimeout + lookUpTimeout),
	}
}

// Get returns the account, registering it if necessary. If ctx ends first it
// returns a *flight.Left, and the registration continues for the next caller.
// IsUnavailable reports whether the error is not the CA's fault.
func (r *Registrar) Get(ctx context.Context) (*Account, error) {
	if acc, unconfirmed := r.known.inUse(time.Now()); acc != nil && !unconfirmed {
		return acc, nil
	}
	call, err := r.flight.Start(r.dir, func(ctx context.Context) (*Account, error) {
		if acc := r.confirm(ctx); acc != nil {
			return acc, nil
		}
		ctx, cancel := flight.Within(ctx, registerTimeout, "no account")
		defer cancel()
		// It calls the user's key and RetryBackoff.
		return flight.CallOut(ctx, r.registrations, r.dir, func(ctx context.Context) (*Account, error) {
			release, err := r.turn.take(ctx)
			if err != nil {
				return nil, err
			}
			defer release()
			if acc := r.known.current(); acc != nil {
				return acc, nil
			}
			return r.registration.find(ctx)
		})
	})
	if err != nil {
		return nil, err
	}
	// Only attempts wait here, not handshakes, and their number is limited.
	acc, err := call.Await(ctx)
	if errors.Is(err, flight.ErrPanic) && !IsUnavailable(err) {
		err = unavailable{err: err} // of the user's Key or RetryBackoff
	}
	return acc, err
}

// confirm returns the account in use, or nil if there is none. Once, some time
// after this process wrote the account's key, it looks whether that is still in
// the Store. Without a Lock two machines that start with an empty Store may both
// register: what is in the Store is then the key of both.
func (r *Registrar) confirm(ctx context.Context) *Account {
	acc, unconfirmed := r.known.inUse(time.Now())
	if !unconfirmed {
		return acc
	}
	again := time.Now().Add(confirmAgain)
	r.known.confirmAt(again)
	key, err := r.keys.get(ctx, currentEntry)
	if err == nil {
		r.known.noteConfirmed(again)
	}
	if err == nil && key != nil && !sameKey(key, acc.Key) {
		r.Forget(acc)
	}
	return r.known.current()
}

// Forget drops an account that the CA no longer knows, so that the next call of
// Get registers again.
func (r *Registrar) Forget(acc *Account) { r.known.forget(acc) }

// Outdated reports whether a request signed by acc failed with err because the
// CA knows the account by another key: this process changed it meanwhile, or
// another machine did and the Store has the new key, or the CA made a change
// whose outcome was unknown. The next call of Get returns the account with that
// key. It also reports whether the CA did not know the account, which it may
// have deleted: Get has then registered another one, or found this one again.
func (r *Registrar) Outdated(ctx context.Context, acc *Account, trace *acmeclient.Trace, err error) bool {
	if acmeclient.IsRateLimited(err) || ctx.Err() != nil {
		return false
	}
	if used := r.known.current(); used.is(acc) {
		if IsGone(err) {
			r.Forget(used)
			r.Get(ctx) // its error comes again
			return true
		}
		if r.userKey != nil || trace.Failed() == acmeclient.EndpointNone || !refusesSigner(err) {
			return false
		}
		keys, err := r.keys.read(ctx)
		if err != nil || keys.isOnly(acc.Key) {
			return false
		}
		r.Forget(used)
	}
	// If the account is unchanged, the refusal is about the host: no second
	// order is placed.
	now, err := r.Get(ctx)
	return err != nil || !now.is(acc)
}

// ChangeKey replaces the account's key (RFC 8555, section 7.3.5). Concurrent
// calls share one change. If ctx ends first it returns a *flight.Left, and the
// change continues. The user's own key is never changed.
func (r *Registrar) ChangeKey(ctx context.Context) error {
	if r.userKey != nil {
		return errors.New("the key comes from Manager.Client: " +
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
