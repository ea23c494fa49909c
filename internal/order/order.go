package order

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/text"
)

// Request describes a conversation. The goroutine of Run calls its functions.
// Functions must not be nil.
type Request struct {
	Names     []string // of the certificate, in normal form; at least one
	Algorithm bundle.Algorithm
	Extra     []pkix.Extension // for the certificate request
	Replaces  string           // CertID of the certificate to be renewed, or ""

	// Unfinished is what Keep was last called with for the host and key type, by
	// this process or another one, or nil.
	Unfinished *Unfinished

	// Keep is called with the order that the next conversation is to resume: when
	// it was placed, with its key before the certificate is asked for, and when
	// more is known of it. It is called with nil when none can come of the order.
	// After a success it is not called: the order is needed until the certificate
	// is safe.
	Keep func(context.Context, *Unfinished)

	// Key returns the key to use for an order. It is called as late as possible.
	Key func(ctx context.Context, orderURL string) (crypto.Signer, error)

	// Before is called once, before the first order, and not if an order is
	// resumed whose certificate was asked for. It returns the challenge types to
	// try, in order. If it returns an error, no order is placed or resumed.
	Before func(ctx context.Context) (types []string, err error)

	// Usable are all challenge types that can be answered. If the CA offers none
	// of Before's, the first of these that it offers is tried.
	Usable []string

	// Profile returns the profile of a new order, or "" for the CA's choice. It is
	// called before each new order. If it returns an error, the order is not
	// placed. An order that is resumed keeps its profile.
	Profile func(context.Context) (string, error)

	// Order is called before each new order, which has replaces or not. If it
	// returns an error, the order is not placed. Otherwise done is called with
	// the outcome; without says that the order was sent without replaces.
	Order func(replaces bool) (done func(without bool, err error), err error)

	// Present makes the response to a challenge available.
	Present func(ctx context.Context, client *acme.Client, chal *acme.Challenge, host string) (*challenge.Answer, error)

	// Accept returns why a certificate that is for the host and the key must not
	// come into service, or nil. Its order was placed at the time placed. With
	// ErrExpired another order may be placed at once.
	Accept func(placed time.Time, chain [][]byte, leaf *x509.Certificate) error

	// Withdraw deletes what another process presented for a challenge, and
	// reports whether nothing is left of it.
	Withdraw func(ctx context.Context, chal *acme.Challenge, host string) (done bool)

	Stage func(audit.Stage) // called at the beginning of each stage
	Event func(audit.Event) // called with events that lack the CA, and the host unless they are about one of several names
	Now   func() time.Time  // the wall clock

	// Cleanup receives what to do after the conversation.
	Cleanup *Cleanup
}

// Result is the result of a conversation. If it failed there is no certificate,
// and the other fields are set as far as it got.
type Result struct {
	Key      crypto.Signer
	Chain    [][]byte // DER, leaf first
	Leaf     *x509.Certificate
	Placed   time.Time // when its order was placed, by this clock or another machine's
	OrderURL string    // of the last order
	Profile  string    // of the last order, as the CA says, or ""
	Worked   string    // type of the challenge that the CA validated, if one was needed
	Refuted  bool      // it failed because validation of a challenge failed

	// NotOffered: tls-alpn-01 failed because the server does not offer its protocol.
	NotOffered bool
}

// conversation is one run of Run.
type conversation struct {
	req      Request
	client   *acme.Client
	replaces string // "" once the CA has failed on it
	res      Result
}

// Run orders, proves control, finalizes and downloads, with the client of an
// account. It ends with ctx, whose acmeclient.Trace records its requests. User
// code that the client calls may panic. Even then the Request's Cleanup is
// complete, and an unfinished order was kept. Errors wrap the CA's *acme.Error,
// if there is one.
func Run(ctx context.Context, client *acme.Client, req Request) (Result, error) {
	ctx = acmeclient.WithTrace(ctx, acmeclient.TraceOf(ctx))
	c := &conversation{req: req, client: client, replaces: req.Replaces}
	err := c.run(ctx)
	c.withdraw(ctx)
	if _, named := errors.AsType[*NamesError](err); err != nil && !named {
		err = c.blameNamed(err)
	}
	return c.res, err
}

// maxInstead is how many orders of a conversation may be placed instead of one
// that has ended, see endedError.instead.
const maxInstead = 1

// run gets a certificate, from the order that an earlier conversation did not
// finish, or from a new one.
func (c *conversation) run(ctx context.Context) error {
	u := c.req.Unfinished
	if u != nil {
		now := c.req.Now().Round(0)
		if u = u.asOf(now); !u.isResumable(c.client, now) {
			c.req.Keep(ctx, nil)
			u = nil
		}
	}
	if u != nil && u.Key != nil {
		o := *u
		c.req.Stage(audit.StageFinalize)
		if err := c.finish(ctx, &o, nil); !isEnded(err) {
			return err
		}
		u = nil
	}
	types, err := c.req.Before(ctx)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		err := c.obtain(ctx, types, u)
		if ended, ok := errors.AsType[*endedError](err); !ok || !ended.instead || n >= maxInstead {
			return err
		}
		u = nil
	}
}

// obtain gets a certificate from pending, an order that was placed earlier, or
// from a new one.
func (c *conversation) obtain(ctx context.Context, types []string, pending *Unfinished) error {
	order, o, err := c.authorizedOrder(ctx, types, pending)
	if err != nil {
		return err
	}
	c.res.Refuted = false
	c.forget(ctx)
	c.req.Stage(audit.StageFinalize)
	if o.Key, err = c.req.Key(ctx, o.URL); err != nil {
		return err
	}
	return c.finish(ctx, o, order)
}

// maxAuthorizations returns the largest number of authorizations in an order;
// each name needs one (RFC 8555, section 7.1.3).
func maxAuthorizations(names []string) int { return len(names) + 3 }

// authorizedOrder returns an order that can be finalized: pending, or a new
// one. A challenge that fails makes its authorization invalid and with it the
// order (RFC 8555, section 7.1.6), so the next type needs a new order.
func (c *conversation) authorizedOrder(ctx context.Context, types []string, pending *Unfinished) (*acme.Order, *Unfinished, error) {
	left := make(map[string][]string, len(c.req.Names))
	for _, name := range c.req.Names {
		left[name] = types
	}
	causes := make(map[string][]error)
	for {
		c.req.Stage(audit.StageOrder)
		order, o, resumed, err := c.place(ctx, pending)
		pending = nil
		if err != nil {
			return nil, nil, c.failure(causes, err)
		}
		if order.Status == acme.StatusReady {
			return order, o, nil // authorized by earlier orders or conversations
		}
		typ, failed, err := c.authorize(ctx, order, left)
		if err == nil && len(failed) == 0 {
			c.res.Worked = typ
			return order, o, nil
		}
		if err != nil {
			if !isEnded(err) {
				c.keepPending(ctx, o, err)
			} else if c.req.Keep(ctx, nil); resumed {
				continue // what ended it happened before
			}
			return nil, nil, c.failure(causes, err)
		}
		c.req.Keep(ctx, nil)
		if out := c.exhausted(left, failed, causes); out != nil || ctx.Err() != nil {
			return nil, nil, c.blame(out, c.failure(causes, nil))
		}
	}
}

// exhausted notes what failed, and returns the names that have no other challenge
// type left, with the reasons: only another one can succeed now.
func (c *conversation) exhausted(left map[string][]string, failed map[string]refutation, causes map[string][]error) (out map[string]error) {
	for name, no := range failed {
		causes[name] = append(causes[name], no.err)
		rest := slices.DeleteFunc(slices.Clone(left[name]), func(t string) bool { return t == no.typ })
		if len(rest) == len(left[name]) || len(rest) == 0 {
			if out == nil {
				out = make(map[string]error)
			}
			out[name] = text.Join(causes[name]...)
		}
		left[name] = rest
	}
	return out
}

// failure joins the causes of the order's failure, the last one last.
func (c *conversation) failure(causes map[string][]error, last error) error {
	var all []error
	for _, name := range c.req.Names {
		for _, err := range causes[name] {
			all = append(all, c.about(name, err))
		}
	}
	if last != nil {
		all = append(all, last)
	}
	if named, ok := errors.AsType[*NamesError](last); ok {
		return c.blame(named.Failed, text.Join(all...))
	}
	return text.Join(all...)
}

// place returns an order that is pending or ready: the one that was placed
// earlier, if that can still be used, or a new one.
func (c *conversation) place(ctx context.Context, earlier *Unfinished) (order *acme.Order, o *Unfinished, resumed bool, err error) {
	if earlier != nil {
		now := *earlier
		c.res.OrderURL = now.URL
		if order, err = c.reopen(ctx, &now); order != nil || err != nil {
			c.noteProfile(order)
			return order, &now, true, err
		}
		c.req.Keep(ctx, nil)
	}
	c.forget(ctx)
	if order, err = c.newOrder(ctx); err != nil {
		return nil, nil, false, acmeclient.Cause(err)
	}
	c.res.OrderURL = order.URI
	c.noteProfile(order)
	if n := len(order.AuthzURLs); n > maxAuthorizations(c.req.Names) {
		return nil, nil, false, fmt.Errorf("order %s has %d authorizations for %s", order.URI, n, countOf(c.req.Names))
	}
	if !isOpen(order) {
		return nil, nil, false, orderFailed(order)
	}
	o = &Unfinished{
		URL:       order.URI,
		Account:   c.client.KID,
		Directory: c.client.DirectoryURL,
		Names:     strings.Join(c.req.Names, " "),
		Created:   c.req.Now().Round(0),
		Expires:   order.Expires,
	}
	c.keep(ctx, o)
	return order, o, false, nil
}

// isOpen reports whether an order can still be authorized or finalized.
func isOpen(o *acme.Order) bool {
	return o.Status == acme.StatusPending || o.Status == acme.StatusReady
}

// newOrder places an order with replaces, which exempts it from the CA's rate
// limits. Once the CA has failed on the field, it is left out.
func (c *conversation) newOrder(ctx context.Context) (*acme.Order, error) {
	profile, err := c.req.Profile(ctx)
	if err != nil {
		return nil, err
	}
	done, err := c.req.Order(c.replaces != "")
	if err != nil {
		return nil, err
	}
	order, without, err := acmeclient.NewOrder(ctx, c.client, identifiers(c.req.Names), profile, c.replaces)
	if without {
		c.replaces = ""
	}
	done(without, err)
	return order, err
}

func orderFailed(o *acme.Order) error {
	if acmeclient.GivesReason(o.Error) {
		return failedObject(o.URI, fmt.Errorf("order %s is %s: %w", o.URI, brief(o.Status), acmeclient.BoundProblem(o.Error)))
	}
	return failedObject(o.URI, fmt.Errorf("order %s is %q and the CA gave no reason", o.URI, brief(o.Status)))
}
