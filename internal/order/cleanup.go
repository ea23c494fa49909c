package order

import (
	"context"

	"golang.org/x/crypto/acme"
)

// Cleanup collects what to do after the conversations of an issuance, however
// they ended. The zero value is empty. It is not safe for concurrent use.
//
// Nothing is cleaned up at the CA. Authorizations that stay pending expire by
// themselves, and another process with the same account may be using them.
type Cleanup struct{ forget []func(context.Context) }

// Later adds f to the functions that Forget calls.
func (c *Cleanup) Later(f func(context.Context)) { c.forget = append(c.forget, f) }

// Forget deletes what the conversations left where other machines can see it.
// It passes ctx on.
func (c *Cleanup) Forget(ctx context.Context) {
	for _, f := range c.forget {
		f(ctx)
	}
}

// inherit sees to the answers that another process left for challenges of an
// order, which it may have presented just before it was killed. Nobody needs
// those to decided authorizations. The others are presented again.
func inherit(ctx context.Context, r *Request, client *acme.Client, o *Unfinished, order *acme.Order) {
	if !o.Inherited || len(order.AuthzURLs) > maxAuthorizations {
		return
	}
	for _, url := range order.AuthzURLs {
		z, err := client.GetAuthorization(ctx, url)
		if err != nil {
			return // the next conversation does it
		}
		if z.Status == acme.StatusPending {
			continue
		}
		for _, chal := range z.Challenges[:min(len(z.Challenges), maxOffers)] {
			r.Cleanup.Later(func(ctx context.Context) { r.Withdraw(ctx, chal, r.Host) })
		}
	}
	o.Inherited = false
}
