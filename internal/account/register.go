package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
)

// registration finds the account at the CA or registers it.
type registration struct {
	*base
	settings settings
	settler  *settler
	saver    *saver
	contact  *contact
	blame    *blame
	prompt   func(tosURL string) bool
	prompts  *flight.Callouts
}

// find finds or registers the account and returns it. The turn is held. The lock
// is taken unless the account is found as it nearly always is: with one key, which
// the CA knows.
func (r *registration) find(ctx context.Context) (*Account, error) {
	if r.lock == nil {
		return r.register(ctx)
	}
	if err := r.settings.check(); err != nil {
		return nil, unavailable{err: err}
	}
	trace := new(acmeclient.Trace)
	ctx = acmeclient.WithTrace(ctx, trace)
	acc, err := r.settler.findSettled(ctx)
	var registered *Account
	if acc == nil && err == nil {
		registered, err = underLock(ctx, r.lock, func(ctx context.Context) (*Account, error) {
			// Another machine may have registered it meanwhile. The next one need not
			// wait until this one uses it.
			if acc, err = r.settler.findSettled(ctx); acc != nil || err != nil {
				return nil, err
			}
			return r.register(ctx)
		})
	}
	switch {
	case err != nil:
		return nil, r.blame.registering(trace, nil, err)
	case acc != nil:
		return r.use(ctx, trace, acc, saved)
	}
	return registered, nil
}

// register finds or registers the account and returns it. The turn and the lock
// are held.
func (r *registration) register(ctx context.Context) (*Account, error) {
	if err := r.settings.check(); err != nil {
		return nil, unavailable{err: err}
	}
	trace := new(acmeclient.Trace)
	acc, state, err := r.settler.find(acmeclient.WithTrace(ctx, trace))
	if err != nil {
		return nil, r.blame.registering(trace, nil, err)
	}
	return r.use(ctx, trace, acc, state)
}

// use puts an account in use, and registers it first if the CA is not known to
// have it.
func (r *registration) use(ctx context.Context, trace *acmeclient.Trace, acc *Account, state savedState) (*Account, error) {
	key := acc.Key
	acc, exists, err := r.findOrEnroll(acmeclient.WithTrace(ctx, trace), acc)
	if err != nil {
		return nil, r.blame.registering(trace, key, err)
	}
	r.tell(audit.Event{Kind: audit.AccountReady, Reason: string(acc.URL)})
	r.known.publish(acc, state)
	if state == unsaved {
		r.saver.saveOrLater(ctx, acc)
	}
	if exists && r.settings.email != "" {
		r.contact.update()
	}
	return acc, nil
}

// findOrEnroll registers an account, unless it has a URL or the CA knows its
// key.
func (r *registration) findOrEnroll(ctx context.Context, acc *Account) (named *Account, exists bool, err error) {
	var obstacle error
	if acc.URL == "" {
		obstacle = r.settings.checkNew()
	}
	if obstacle != nil && r.settings.key == nil {
		return nil, false, unavailable{err: obstacle} // without a request
	}
	client := r.client(acc)
	dir, err := r.discover(ctx, client)
	if err != nil {
		return nil, false, err
	}
	agreed, err := r.askTerms(ctx, dir.Terms)
	if err != nil {
		return nil, false, unavailable{err: err}
	}
	if acc.URL != "" {
		return acc, true, nil
	}
	if obstacle = cmp.Or(obstacle, r.obstacle(dir, agreed)); obstacle != nil {
		acc, err = r.existing(ctx, acc, obstacle)
		return acc, true, err
	}
	if exists, err = r.enroll(ctx, client, agreed); err != nil {
		return nil, false, fmt.Errorf("registering an account: %w", acmeclient.Cause(err))
	}
	acc, err = r.named(ctx, client)
	return acc, exists, err
}

// askTerms calls Prompt, because x/crypto/acme would do so under a lock.
func (r *registration) askTerms(ctx context.Context, terms string) (agreed bool, err error) {
	if terms == "" {
		return false, nil
	}
	if r.prompt == nil {
		return false, fmt.Errorf("set Manager.Prompt, for example to AcceptTOS: the CA's terms of service at %s must be accepted", terms)
	}
	agreed, err = flight.CallOut(ctx, r.prompts, terms, func(context.Context) (bool, error) { return r.prompt(terms), nil })
	if err != nil {
		err = fmt.Errorf("Manager.Prompt: %w", err)
	}
	return agreed, err
}

// obstacle returns why the CA would refuse to register an account, by its
// directory (RFC 8555, section 7.3), or nil.
func (r *registration) obstacle(dir acme.Directory, agreed bool) error {
	switch {
	case dir.Terms != "" && !agreed:
		return fmt.Errorf("Manager.Prompt did not accept the terms of service at %s", dir.Terms)
	case dir.ExternalAccountRequired && r.settings.binding == nil:
		return errors.New(needsBinding)
	}
	return nil
}

// existing returns the account if the CA knows its key, although none could be
// registered because of an obstacle.
func (r *registration) existing(ctx context.Context, acc *Account, obstacle error) (*Account, error) {
	if r.settings.key == nil {
		return nil, unavailable{err: obstacle} // it was looked up
	}
	url, err := r.lookUp(ctx, acc.Key)
	if err != nil {
		return nil, err
	}
	if url == "" {
		return nil, unavailable{err: obstacle}
	}
	return &Account{acc.Key, url}, nil
}

// enroll registers client's key, or reports that it is already registered.
func (r *registration) enroll(ctx context.Context, client *acme.Client, agreed bool) (exists bool, err error) {
	req := &acme.Account{ExternalAccountBinding: r.settings.binding}
	if r.settings.email != "" {
		req.Contact = []string{"mailto:" + r.settings.email}
	}
	_, err = client.Register(ctx, req, func(string) bool { return agreed })
	if alreadyExists(err) {
		return true, nil
	}
	return false, err
}

// named returns client's account. A CA that replies 409 for a registered key
// has not told the account's URL.
func (r *registration) named(ctx context.Context, client *acme.Client) (*Account, error) {
	acc := &Account{client.Key, client.KID}
	if acc.URL != "" {
		return acc, nil
	}
	var err error
	if acc.URL, err = r.lookUp(ctx, acc.Key); err != nil {
		return nil, err
	}
	if acc.URL == "" {
		return nil, errors.New("looking up the account: the CA says both that it exists and that it does not")
	}
	return acc, nil
}
