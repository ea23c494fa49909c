package order

import "context"

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
