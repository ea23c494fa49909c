package order

import (
	"context"
	"slices"

	"golang.org/x/crypto/acme"
)

// Cleanup is what is to be done when the conversations for an issuance are over,
// however they ended. The zero value is empty. It is used by one goroutine at a time.
type Cleanup struct {
	forget  []func(context.Context)
	pending []string     // URLs of authorizations
	client  *acme.Client // of the last conversation
}

// Later adds f to what Forget calls.
func (c *Cleanup) Later(f func(context.Context)) { c.forget = append(c.forget, f) }

// Forget takes away what the conversations left where other machines find it. ctx is
// passed on.
func (c *Cleanup) Forget(ctx context.Context) {
	for _, f := range c.forget {
		f(ctx)
	}
}

// HasPending reports whether there is anything to deactivate.
func (c *Cleanup) HasPending() bool { return len(c.pending) > 0 }

// Deactivate gives up authorizations that are still pending, so that they do not count
// against the account's limit. Code of the user's that the client calls may panic.
func (c *Cleanup) Deactivate(ctx context.Context) {
	for _, url := range c.pending {
		if c.client.RevokeAuthorization(ctx, url) != nil {
			return // they expire by themselves
		}
	}
}

// settled takes an authorization off the list of those to deactivate.
func (c *Cleanup) settled(url string) {
	c.pending = slices.DeleteFunc(c.pending, func(u string) bool { return u == url })
}
