package order

import (
	"context"
	"errors"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
)

// maxStalls is how many conversations may end while the CA decides nothing about
// an order's authorization, before a new order is placed: perhaps the CA has lost
// the validation.
const maxStalls = 2

// reopen fetches an order that an earlier conversation placed and did not
// finalize. It returns nil without an error if the order is of no use any more,
// which costs nothing: no certificate can have come of it for a key that is known
// here.
func (c *conversation) reopen(ctx context.Context, o *Unfinished) (*acme.Order, error) {
	order, err := c.client.GetOrder(ctx, o.URL)
	if err != nil {
		err = acmeclient.Cause(err)
		if isRefused(err) {
			return nil, nil
		}
		return nil, err
	}
	c.req.Cleanup.inherit(o, order, c.req.Names)
	if !isOpen(order) || !isFor(order, c.req.Names) || len(order.AuthzURLs) > maxAuthorizations(c.req.Names) {
		return nil, nil
	}
	return order, nil
}

// keepPending keeps an order that is not authorized yet.
func (c *conversation) keepPending(ctx context.Context, o *Unfinished, err error) {
	if _, asked := errors.AsType[*WaitError](err); !asked && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		o.Stalls++
	}
	c.keep(ctx, o)
}
