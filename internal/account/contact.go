package account

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
)

// contactTimeout is the time-out for reading the account's contact and changing
// it.
const contactTimeout = time.Minute

// contact updates the contact of an existing account.
type contact struct {
	*base
	email   string
	blame   *blame
	calls   *flight.Callouts
	updated bool // the contact was checked; guarded by the turn
}

// update updates the contact in the background, once in a process: some CAs do
// not show contacts and get an update each time. No issuance depends on it.
func (c *contact) update() {
	c.tasks.Go(func(ctx context.Context) {
		release, err := c.turn.take(ctx) // so that the key does not change meanwhile
		if err != nil {
			return // closed
		}
		defer release()
		acc := c.known.current()
		if acc == nil || c.updated {
			return
		}
		c.updated = true
		c.updateOf(ctx, acc)
	})
}

// updateOf changes the contact of acc if necessary, and emits an event of the
// outcome. The turn is held.
func (c *contact) updateOf(ctx context.Context, acc *Account) {
	ctx, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	changed, err := flight.CallOut(ctx, c.calls, c.dir, func(ctx context.Context) (bool, error) {
		if err := checkEmail(c.email); err != nil {
			return false, err
		}
		return c.change(ctx, c.client(acc))
	})
	switch {
	case err != nil && !c.tasks.IsClosed():
		c.tell(audit.Event{
			Kind:   audit.AccountContactFailed,
			Reason: "the account's contact may differ from Manager.Email; the update is retried at the next start",
			Err:    err,
		})
	case changed:
		c.tell(audit.Event{Kind: audit.AccountContactChanged, Reason: string(acc.URL)})
	}
}

// change sets the contact, and reports whether it was different.
func (c *contact) change(ctx context.Context, client *acme.Client) (changed bool, err error) {
	acc, err := client.GetReg(ctx, "")
	if err != nil {
		return false, fmt.Errorf("looking up the account: %w", acmeclient.Cause(err))
	}
	if c.isUpToDate(acc) {
		return false, nil
	}
	return underLock(ctx, c.lock, func(ctx context.Context) (bool, error) { return c.set(ctx, client) })
}

// isUpToDate reports whether the account has the contact already.
func (c *contact) isUpToDate(acc *acme.Account) bool {
	return slices.EqualFunc(acc.Contact, c.wanted(), strings.EqualFold)
}

func (c *contact) wanted() []string { return []string{"mailto:" + c.email} }

// set is change for a contact that was different. The lock is held: another
// machine may have changed it meanwhile.
func (c *contact) set(ctx context.Context, client *acme.Client) (changed bool, err error) {
	if c.lock != nil {
		if acc, err := client.GetReg(ctx, ""); err == nil && c.isUpToDate(acc) {
			return false, nil
		}
	}
	if _, err := client.UpdateReg(ctx, &acme.Account{Contact: c.wanted()}); err != nil {
		err = fmt.Errorf("changing the account's contact: %w", acmeclient.Cause(err))
		if p, kind := refusalOf(err); p != nil && c.blame.culprit(p, kind, client.Key) == c.blame.email() {
			err = fmt.Errorf("%s: %w", c.blame.email(), err)
		}
		return false, err
	}
	return true, nil
}
