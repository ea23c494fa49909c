package account

import (
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
	settler *settler
	saver   *saver
	contact *contact
	email   string
	binding *acme.ExternalAccountBinding
	prompt  func(tosURL string) bool
	prompts *flight.Callouts
}

// register finds or registers the account and returns it. The turn is held.
func (r *registration) register(ctx context.Context) (*Account, error) {
	acc, state, err := r.settler.find(ctx)
	if err != nil {
		return nil, err
	}
	client := r.client(acc)
	dir, err := r.discover(ctx, client)
	if err != nil {
		return nil, err
	}
	agreed, err := r.askTerms(ctx, dir.Terms)
	if err != nil {
		return nil, unavailable{err}
	}
	exists := true
	if acc.URL == "" {
		if exists, err = r.enroll(ctx, client, agreed); err != nil {
			return nil, fmt.Errorf("registering an account: %w%s", acmeclient.Cause(err), r.hint(dir, agreed))
		}
		if acc, err = r.named(ctx, client); err != nil {
			return nil, err
		}
	}
	r.tell(audit.Event{Kind: audit.AccountReady, Reason: string(acc.URL)})
	r.known.publish(acc, state)
	if state == unsaved {
		r.saver.saveOrLater(ctx, acc)
	}
	if exists && r.email != "" {
		r.contact.update()
	}
	return acc, nil
}

// askTerms calls Prompt, because x/crypto/acme would do so under a lock.
func (r *registration) askTerms(ctx context.Context, terms string) (agreed bool, err error) {
	if terms == "" {
		return false, nil
	}
	if r.prompt == nil {
		return false, fmt.Errorf("the CA's terms of service at %s must be accepted; set Manager.Prompt, for example to AcceptTOS", terms)
	}
	return flight.CallOut(ctx, r.prompts, terms, func(context.Context) (bool, error) { return r.prompt(terms), nil })
}

// enroll registers client's key, or reports that it is already registered.
func (r *registration) enroll(ctx context.Context, client *acme.Client, agreed bool) (exists bool, err error) {
	req := &acme.Account{ExternalAccountBinding: r.binding}
	if r.email != "" {
		req.Contact = []string{"mailto:" + r.email}
	}
	_, err = client.Register(ctx, req, func(string) bool { return agreed })
	if alreadyExists(err) {
		return true, nil
	}
	return false, err
}

// hint names what may be missing if the CA refuses to register an account.
func (r *registration) hint(dir acme.Directory, agreed bool) string {
	switch {
	case dir.Terms != "" && !agreed:
		return " (Manager.Prompt did not accept the terms of service at " + dir.Terms + ")"
	case dir.ExternalAccountRequired && r.binding == nil:
		return " (the CA needs Manager.ExternalAccountBinding)"
	}
	return ""
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
