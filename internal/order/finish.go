package order

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/text"
)

const (
	// finishMaxFails is how many consecutive failures end the conversation about an
	// order that may have been finalized. The next one resumes it.
	finishMaxFails = 3

	// finishFailWait is at least what it waits after the first failure.
	finishFailWait = time.Second

	// maxRequests is how often a certificate is asked for in a conversation.
	maxRequests = 5

	// requestStep is the first wait before a certificate is asked for again because
	// the order is still ready. It doubles. refusedStep is the same for a
	// request that the CA did not act on.
	requestStep = 5 * time.Second
	refusedStep = time.Second
)

// finishing is the end of a conversation: from the certificate request to the
// chain.
type finishing struct {
	req      Request
	client   *acme.Client
	o        *Unfinished
	csr      []byte
	seen     func(*acme.Order)
	requests int       // for the certificate, in this conversation
	last     time.Time // when the last one ended
	failure  error     // of the last one
	stop     bool      // the conversation is over
}

// finish finalizes an order and downloads the chain. order is nil if an earlier
// conversation has begun to. If the order can no longer yield a certificate, the
// error is an *endedError. Otherwise the order is kept until it does.
func (c *conversation) finish(ctx context.Context, o *Unfinished, order *acme.Order) error {
	csr, err := c.newCSR(o.Key)
	if err != nil {
		return fmt.Errorf("certificate request: %w", err)
	}
	c.res.OrderURL = o.URL
	c.keep(ctx, o)
	f := &finishing{
		req:    c.req,
		client: c.client,
		o:      o,
		csr:    csr,
		seen:   c.noteProfile,
	}
	chain, leaf, err := f.run(ctx, order)
	switch {
	case err == nil:
		c.res.Key, c.res.Chain, c.res.Leaf, c.res.Placed = o.Key, chain, leaf, o.Created
	case isEnded(err):
		c.req.Keep(ctx, nil)
	default:
		c.keep(ctx, o)
	}
	return err
}

// keep passes on a copy of o as it is now.
func (c *conversation) keep(ctx context.Context, o *Unfinished) {
	now := *o
	c.req.Keep(ctx, &now)
}

// run gets the chain and checks it.
func (f *finishing) run(ctx context.Context, order *acme.Order) (chain [][]byte, leaf *x509.Certificate, err error) {
	sent, err := f.await(ctx, order)
	if err != nil {
		return nil, nil, err
	}
	if chain, err = bundle.Arrange(f.o.Key, sent); err == nil {
		leaf, err = bundle.Check(f.req.Names, f.req.Algorithm, f.o.Key, chain)
	}
	if err == nil {
		err = f.req.Accept(f.o.Created, chain, leaf)
	}
	if err != nil {
		return nil, nil, f.misfit(acmeclient.Cause(err))
	}
	return chain, leaf, nil
}

// misfit returns the error of a certificate that does not fit because of err.
func (f *finishing) misfit(err error) error {
	if errors.Is(err, bundle.ErrOtherKey) && !f.o.Accepted {
		return &endedError{
			err:     fmt.Errorf("order %s was finalized by another process with the same account: %w", f.o.URL, err),
			instead: true,
		}
	}
	if errors.Is(err, ErrExpired) {
		return &endedError{err: fmt.Errorf("order %s of %s: %w", f.o.URL, text.Stamp(f.o.Created), err), instead: true}
	}
	if f.o.Unfit.IsZero() {
		f.o.Unfit = f.req.Now().Round(0)
	}
	return fmt.Errorf("the CA's certificate does not fit: %w; each attempt downloads that of order %s again, and the next order is placed after %s",
		err, f.o.URL, text.Stamp(f.o.end()))
}

// await returns the chain. It asks again while the CA's replies are inconclusive:
// the CA's databases may lag, and a proxy may be in front of them.
func (f *finishing) await(ctx context.Context, order *acme.Order) ([][]byte, error) {
	rule := pollRule{
		maxFails: finishMaxFails,
		failWait: finishFailWait,
		isFatal:  func(err error) bool { return f.stop || isEnded(err) || asksToWait(err) },
	}
	if order != nil {
		status, err := f.request(ctx, order)
		if err != nil {
			return nil, err
		}
		// Many CAs have issued by now, but the reply does not name the certificate's
		// URL; the order does.
		if status != acme.StatusValid {
			rule.first = pollFirst
		}
	}
	chain, err := poll(ctx, rule, f.look)
	if err != nil && f.failure != nil && !f.stop && !isEnded(err) {
		err = fmt.Errorf("%w; the last certificate request failed: %w", err, f.failure)
	}
	return chain, err
}

// look fetches the order and takes the next step.
func (f *finishing) look(ctx context.Context) (chain [][]byte, done bool, err error) {
	order, err := f.client.GetOrder(ctx, f.o.URL)
	if err != nil {
		return nil, false, f.o.noteReply(acmeclient.Cause(err), f.req.Now())
	}
	f.seen(order)
	f.req.Cleanup.inherit(f.o, order, f.req.Names)
	switch order.Status {
	case acme.StatusValid:
		if order.CertURL == "" {
			return nil, false, fmt.Errorf("order %s is valid and names no certificate", f.o.URL)
		}
		chain, err := f.client.FetchCert(ctx, order.CertURL, true)
		err = f.o.noteReply(acmeclient.Cause(err), f.req.Now())
		return chain, err == nil, err
	case acme.StatusInvalid:
		return nil, false, &endedError{err: orderFailed(order)}
	case acme.StatusReady:
		f.o.Missing = time.Time{}
		return nil, false, f.requestAgain(ctx, order)
	case acme.StatusPending, acme.StatusProcessing:
		f.o.Missing = time.Time{}
		return nil, false, nil
	}
	return nil, false, orderFailed(order)
}

// requestAgain asks for the certificate of an order that is ready, if that is due:
// the request was lost, or the CA shows what the order was before.
func (f *finishing) requestAgain(ctx context.Context, order *acme.Order) error {
	step := requestStep
	if f.failure != nil && !f.o.Accepted {
		if problem, ok := acmeclient.Problem(f.failure); !ok || problem.StatusCode >= http.StatusInternalServerError {
			f.stop = true // PostCSR has tried what can be tried
			return f.failure
		}
		step = refusedStep
	}
	switch {
	case f.requests > 0 && time.Since(f.last) < step<<(f.requests-1):
		return nil
	case f.requests >= maxRequests:
		return fmt.Errorf("order %s is still ready after %d certificate requests", f.o.URL, f.requests)
	}
	_, err := f.request(ctx, order)
	return err
}

// request sends the certificate request. It returns an error if the CA refused it
// or asks to wait. After any other failure, the order's status shows whether the
// CA received it.
func (f *finishing) request(ctx context.Context, order *acme.Order) (status string, err error) {
	status, accepted, err := acmeclient.PostCSR(ctx, f.client, order, f.csr)
	f.requests++
	f.last, f.failure = time.Now(), err
	switch {
	case err == nil:
		f.o.Accepted = f.o.Accepted || accepted
	case isRefusal(err) && !f.o.Accepted:
		return "", &endedError{err: err}
	case asksToWait(err):
		return "", err
	}
	return status, nil
}

// asksToWait reports whether the CA refused because of a rate limit, or asks for a
// wait that is too long for a conversation.
func asksToWait(err error) bool {
	problem, ok := acmeclient.Problem(err)
	if !ok {
		return false
	}
	wait, _ := acmeclient.RetryAfter(problem.Header, time.Now())
	return acmeclient.IsRateLimited(err) || wait > pollMost
}

// isRefusal reports whether a failed certificate request was refused by the CA, and
// not by a proxy or because the CA's databases lag.
func isRefusal(err error) bool {
	problem, ok := acmeclient.Problem(err)
	if !ok || problem.StatusCode < 400 || problem.StatusCode >= 500 || isGone(problem) {
		return false
	}
	switch problem.StatusCode {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	_, kind, isACME := strings.Cut(strings.ToLower(problem.ProblemType), "acme:error:")
	return isACME && !slices.Contains([]string{"ordernotready", "badnonce", "ratelimited", "serverinternal", "accountdoesnotexist"}, kind)
}

// isGone reports whether the CA does not know the resource.
func isGone(problem *acme.Error) bool {
	return problem.StatusCode == http.StatusNotFound || problem.StatusCode == http.StatusGone
}
