package certmgr

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/auditqueue"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// account is a key that is registered with the CA, and the account's URL;
// immutable.
type account struct {
	key crypto.Signer
	kid acme.KeyID
}

// accounts registers the one account of a Manager once, whoever asks.
type accounts struct {
	settings *settings
	ca       *acmeclient.CA
	dir      string        // directory URL
	key      crypto.Signer // Manager.Client.Key; nil: kept in the cache
	store    *store
	tasks    *flight.Tasks
	audit    *auditqueue.Queue
	prompt   *flight.Callouts
	calls    *flight.Callouts // registrations
	changes  *flight.Callouts // of the key
	updates  *flight.Callouts // of the contact
	flight   *flight.Flight[string, *account]
	working  flight.KeyLock // one registration or change of the key at a time

	mu       sync.Mutex
	ready    *account
	state    savedState        // of ready's key
	last     crypto.Signer     // ready's key, or of what it was before
	changing keyChange         // the last one that may still be made
	kept     map[string][]byte // keys, in the place of the Cache if there is none
	updated  bool              // the contact was looked at
}

// registerTimeout bounds one try to have an account.
const registerTimeout = 2 * time.Minute

// get returns the account, registering it if need be. The registration goes on
// if ctx ends, for the next one who asks.
func (a *accounts) get(ctx context.Context) (*account, error) {
	if acc := a.current(); acc != nil {
		return acc, nil
	}
	call, err := a.flight.Start(a.dir, func(ctx context.Context) (*account, error) {
		if acc := a.current(); acc != nil {
			return acc, nil
		}
		ctx, cancel := flight.Within(ctx, registerTimeout, "no account")
		defer cancel()
		// The user's key and RetryBackoff take part.
		return flight.CallOut(ctx, a.calls, a.dir, func(ctx context.Context) (*account, error) {
			unlock, err := a.working.Lock(ctx, a.dir)
			if err != nil {
				return nil, fmt.Errorf("another call that concerns the account has not returned: %w", err)
			}
			defer unlock()
			if acc := a.current(); acc != nil {
				return acc, nil
			}
			return a.register(ctx)
		})
	})
	if err != nil {
		return nil, err
	}
	// Attempts wait here, not handshakes: MaxIssuing bounds them.
	return call.Await(ctx)
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

// outdated reports whether a request of acc's failed with err because the CA
// knows the account by another key: this process changed it meanwhile, or another
// machine did and the Cache has the new one, or the CA made a change of which that
// was not known. The next call of get has it too.
func (a *accounts) outdated(ctx context.Context, acc *account, trace *acmeclient.Trace, err error) bool {
	if acmeclient.IsRateLimited(err) || ctx.Err() != nil {
		return false
	}
	if a.current() == acc {
		if a.key != nil || trace.Failed() == acmeclient.EndpointNone || !refusesSigner(err) {
			return false
		}
		keys, err := a.savedKeys(ctx)
		if err != nil || keys.isOnly(acc.key) {
			return false
		}
		a.forget(acc)
	}
	// A host that the CA refuses in the same words has no second order.
	now, err := a.get(ctx)
	return err != nil || now.kid != acc.kid || !sameKey(now.key, acc.key)
}

// refusesSigner reports whether a request may have been refused for its
// signature: CAs say so in different ways.
func refusesSigner(err error) bool {
	problems := text.Problems(err)
	if len(problems) == 0 {
		return false
	}
	switch strings.TrimPrefix(problems[len(problems)-1].ProblemType, "urn:ietf:params:acme:error:") {
	case "malformed", "unauthorized", "accountDoesNotExist", "badSignatureAlgorithm", "badPublicKey":
		return true
	}
	return false
}

// register finds the account at the CA or makes one. a.working is held.
func (a *accounts) register(ctx context.Context) (*account, error) {
	acc, state, err := a.accountKey(ctx)
	if err != nil {
		return nil, err
	}
	client := a.ca.Client(acc.key, acc.kid)
	dir, err := client.Discover(ctx)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", a.dir, acmeclient.Cause(err))
	}
	agreed, err := a.askTerms(ctx, dir.Terms)
	if err != nil {
		return nil, localError{err}
	}
	exists := true
	if acc.kid == "" {
		if exists, err = a.enroll(ctx, client, agreed); err != nil {
			return nil, fmt.Errorf("registering an account: %w%s", acmeclient.Cause(err), a.registerHint(dir, agreed))
		}
		if acc, err = a.named(ctx, client); err != nil {
			return nil, err
		}
	}
	a.audit.Emit(audit.Event{Kind: audit.AccountReady, CA: a.dir, Stage: audit.StageAccount, Reason: string(acc.kid)})
	a.set(acc, state)
	if state == unsaved {
		a.saveOrLater(ctx, acc)
	}
	if exists && a.settings.email != "" {
		a.updateContact()
	}
	return acc, nil
}

// enroll makes the account of client's key, or reports that it exists.
func (a *accounts) enroll(ctx context.Context, client *acme.Client, agreed bool) (exists bool, err error) {
	req := &acme.Account{ExternalAccountBinding: a.settings.externalAccountBinding}
	if a.settings.email != "" {
		req.Contact = []string{"mailto:" + a.settings.email}
	}
	_, err = client.Register(ctx, req, func(string) bool { return agreed })
	if isAccountExists(err) {
		return true, nil
	}
	return false, err
}

// named returns client's account. A CA that answers 409 for a known key has not
// named it.
func (a *accounts) named(ctx context.Context, client *acme.Client) (*account, error) {
	acc := &account{client.Key, client.KID}
	if acc.kid != "" {
		return acc, nil
	}
	var err error
	if acc.kid, err = a.lookUp(ctx, acc.key); err != nil {
		return nil, err
	}
	if acc.kid == "" {
		return nil, errors.New("looking up the account: the CA says both that it exists and that it does not")
	}
	return acc, nil
}

// set publishes an account.
func (a *accounts) set(acc *account, state savedState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ready, a.state, a.last = acc, state, acc.key
}

// setChanging notes a change of the key that the CA is going to be asked for.
func (a *accounts) setChanging(c keyChange) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changing = c
}

// isSaved reports whether acc is the account and its key in place.
func (a *accounts) isSaved(acc *account) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ready == acc && a.state == saved
}

// contactTimeout bounds looking at the account's contact and changing it.
const contactTimeout = time.Minute

// updateContact makes Manager.Email the contact of an account that was registered
// before. That is tried once in a process, in the background: CAs that do not
// show contacts are told each time, and no issuance depends on it.
func (a *accounts) updateContact() {
	a.tasks.Go(func(ctx context.Context) {
		unlock, err := a.working.Lock(ctx, a.dir) // or the key could change meanwhile
		if err != nil {
			return // closed
		}
		defer unlock()
		ctx, cancel := context.WithTimeout(ctx, contactTimeout)
		defer cancel()
		acc := a.toUpdate()
		if acc == nil {
			return
		}
		changed, err := flight.CallOut(ctx, a.updates, a.dir, func(ctx context.Context) (bool, error) {
			return a.changeContact(ctx, a.ca.Client(acc.key, acc.kid))
		})
		switch {
		case err != nil && !a.tasks.IsClosed():
			a.audit.Emit(audit.Event{
				Kind:   audit.AccountContactFailed,
				CA:     a.dir,
				Stage:  audit.StageAccount,
				Reason: "the account's contact is not known to be Manager.Email; tried again at the next start",
				Err:    err,
			})
		case changed:
			a.audit.Emit(audit.Event{Kind: audit.AccountContactChanged, CA: a.dir, Stage: audit.StageAccount, Reason: string(acc.kid)})
		}
	})
}

// toUpdate returns the account, once.
func (a *accounts) toUpdate() *account {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ready == nil || a.updated {
		return nil
	}
	a.updated = true
	return a.ready
}

func (a *accounts) changeContact(ctx context.Context, client *acme.Client) (changed bool, err error) {
	known, err := client.GetReg(ctx, "")
	if err != nil {
		return false, fmt.Errorf("looking up the account: %w", acmeclient.Cause(err))
	}
	contact := []string{"mailto:" + a.settings.email}
	if slices.EqualFunc(known.Contact, contact, strings.EqualFold) {
		return false, nil
	}
	if _, err := client.UpdateReg(ctx, &acme.Account{Contact: contact}); err != nil {
		return false, fmt.Errorf("changing the account's contact: %w", acmeclient.Cause(err))
	}
	return true, nil
}

// askTerms asks Manager.Prompt before x/crypto/acme would do so under a lock.
func (a *accounts) askTerms(ctx context.Context, terms string) (bool, error) {
	if terms == "" {
		return false, nil
	}
	prompt := a.settings.prompt
	if prompt == nil {
		return false, fmt.Errorf("the CA's terms of service at %s have to be accepted; set Manager.Prompt, for example to AcceptTOS", terms)
	}
	return flight.CallOut(ctx, a.prompt, terms, func(context.Context) (bool, error) { return prompt(terms), nil })
}

func (a *accounts) registerHint(dir acme.Directory, agreed bool) string {
	switch {
	case dir.Terms != "" && !agreed:
		return " (Manager.Prompt did not accept the terms of service at " + dir.Terms + ")"
	case dir.ExternalAccountRequired && a.settings.externalAccountBinding == nil:
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
