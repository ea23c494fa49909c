package order

import (
	"context"
	"slices"
	"time"

	"golang.org/x/crypto/acme"
)

// Cleanup collects what to do after the conversations of an issuance, however
// they ended. The zero value is empty. It is not safe for concurrent use.
//
// Nothing is cleaned up at the CA. Authorizations that stay pending expire by
// themselves, and another process with the same account may be using them.
type Cleanup struct {
	forget    []func(context.Context) (done bool)
	inherited []string // URLs of authorizations
}

// Later adds f to the functions that Forget calls, each until it reports that it
// is done.
func (c *Cleanup) Later(f func(context.Context) (done bool)) { c.forget = append(c.forget, f) }

// Forget deletes what the conversations left where other machines can see it.
// It passes ctx on.
func (c *Cleanup) Forget(ctx context.Context) {
	c.forget = slices.DeleteFunc(c.forget, func(f func(context.Context) bool) bool { return f(ctx) })
}

// forgetTimeout bounds the deletion of answers during a conversation: a visitor
// may be waiting.
const forgetTimeout = 2 * time.Second

// forget deletes the answers to decided challenges as long as the Cache has the
// order that they belong to: by that, another process finds them if this one is
// killed. It does not wait for a slow Cache, which the Cleanup's Forget does.
func (c *conversation) forget(ctx context.Context) {
	c.withdraw(ctx)
	if ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTimeout)
	defer cancel()
	c.req.Cleanup.Forget(ctx)
}

// inherit notes the authorizations of an order that another process placed. It may
// have been killed just after it presented its answers to their challenges.
func (c *Cleanup) inherit(o *Unfinished, order *acme.Order, names []string) {
	if o.Inherited && len(order.AuthzURLs) <= maxAuthorizations(names) {
		c.inherited = order.AuthzURLs
	}
	o.Inherited = false
}

// withdrawTimeout bounds the requests for that: a certificate may be waiting.
const withdrawTimeout = 5 * time.Second

// withdraw sees to the deletion of another process's answers. Nobody needs those
// to decided authorizations. If the CA does not say what they are, they stay.
func (c *conversation) withdraw(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, withdrawTimeout)
	defer cancel()
	for _, url := range c.req.Cleanup.inherited {
		z, err := c.client.GetAuthorization(ctx, url)
		if err != nil {
			return
		}
		if z.Status == acme.StatusPending {
			continue
		}
		name := c.name(z)
		for _, chal := range z.Challenges[:min(len(z.Challenges), maxOffers)] {
			c.req.Cleanup.Later(func(ctx context.Context) bool { return c.req.Withdraw(ctx, chal, name) })
		}
	}
	c.req.Cleanup.inherited = nil
}
