package order

import (
	"context"
	"time"

	"golang.org/x/crypto/acme"
)

// Cleanup collects what to do after the conversations of an issuance, however
// they ended. The zero value is empty. It is not safe for concurrent use.
//
// Nothing is cleaned up at the CA. Authorizations that stay pending expire by
// themselves, and another process with the same account may be using them.
type Cleanup struct {
	forget    []func(context.Context)
	inherited []string // URLs of authorizations
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

// inherit notes the authorizations of an order that another process placed. It may
// have been killed just after it presented its answers to their challenges.
func (c *Cleanup) inherit(o *Unfinished, order *acme.Order) {
	if o.Inherited && len(order.AuthzURLs) <= maxAuthorizations {
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
		for _, chal := range z.Challenges[:min(len(z.Challenges), maxOffers)] {
			c.req.Cleanup.Later(func(ctx context.Context) { c.req.Withdraw(ctx, chal, c.req.Host) })
		}
	}
	c.req.Cleanup.inherited = nil
}
