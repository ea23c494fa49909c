package order

import (
	"context"
	"slices"

	"golang.org/x/crypto/acme"
)

// Cleanup collects what to do after the conversations of an issuance, however
// they ended. The zero value is empty. It is not safe for concurrent use.
type Cleanup struct {
	forget  []func(context.Context)
	pending []string     // URLs of authorizations
	client  *acme.Client // of the last conversation
}

// Later adds f to the functions that Forget calls.
func (c *Cleanup) Later(f func(context.Context)) { c.forget = append(c.forget, f) }

// Forget deletes what the conversations left where other machines can see it.
// It passes ctx on.
func (c *Cleanup) Forget(ctx context.Context) {
	for _, f := range c.forget {
		f(ctx)
	}
}

// HasPending reports whether there are authorizations to deactivate.
func (c *Cleanup) HasPending() bool { return len(c.pending) > 0 }

// Deactivate deactivates authorizations that are still pending, so that they do
// not count against the account's limit. User code that the client calls may
// panic.
func (c *Cleanup) Deactivate(ctx context.Context) {
	for _, url := range c.pending {
		if c.client.RevokeAuthorization(ctx, url) != nil {
			return // they expire eventually
		}
	}
}

// settled removes an authorization from the list of pending ones.
func (c *Cleanup) settled(url string) {
	c.pending = slices.DeleteFunc(c.pending, func(u string) bool { return u == url })
}
