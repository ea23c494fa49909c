package order

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/text"
)

// authorize satisfies the pending authorizations of an order: for each name with
// the first of its types in left that is offered, or else of the usable ones. If
// the CA decided against challenges, failed has them by name, and otherwise
// worked is the type of one that it validated, if one was needed. If nothing can
// come of the order for another reason, the error is an *endedError.
func (c *conversation) authorize(ctx context.Context, order *acme.Order, left map[string][]string) (worked string, failed map[string]refutation, err error) {
	var tried []*trial
	defer func() {
		for _, t := range tried {
			t.answer.Remove()
		}
	}()
	for _, url := range order.AuthzURLs {
		c.req.Stage(audit.StageAuthorization)
		z, err := c.client.GetAuthorization(ctx, url)
		if err != nil {
			return "", nil, endIfDenied(acmeclient.Cause(err))
		}
		name := c.name(z)
		switch z.Status {
		case acme.StatusValid:
			continue
		case acme.StatusPending:
		default:
			return "", nil, &endedError{err: c.about(name, authorizationFailed(z, nil))}
		}
		types := left[name]
		chal := cmp.Or(pickChallenge(z, types), pickChallenge(z, c.req.Usable))
		if chal == nil {
			return "", nil, &endedError{err: c.about(name, fmt.Errorf("the CA offers none of the challenge types %q; it offers %q%s", types, challengeTypes(z), http01Hint(types)))}
		}
		worked = chal.Type
		c.req.Stage(audit.StageChallenge)
		t := &trial{name: name, url: url, chal: chal}
		if t.answer, err = c.req.Present(ctx, c.client, chal, name); err != nil {
			return "", nil, c.about(name, fmt.Errorf("%s: %w", chal.Type, err))
		}
		tried = append(tried, t)
		c.req.Cleanup.Later(t.answer.Forget)
		if err := c.accept(ctx, t); err != nil {
			return "", nil, c.about(name, fmt.Errorf("%s: %w", chal.Type, err))
		}
	}
	failed, err = c.await(ctx, tried)
	return worked, failed, err
}

// about adds the name to an error if there are several.
func (c *conversation) about(name string, err error) error {
	if len(c.req.Names) == 1 {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

func http01Hint(types []string) string {
	if slices.Contains(types, challenge.HTTP01) {
		return ""
	}
	return " (http-01 is used when port 80 is served by Manager.HTTPHandler)"
}

// maxOffers is how many of the offered challenge types an error names.
const maxOffers = 8

func challengeTypes(z *acme.Authorization) []string {
	var types []string
	for _, c := range z.Challenges[:min(len(z.Challenges), maxOffers)] {
		types = append(types, brief(c.Type))
	}
	return types
}

// endIfDenied makes a refusal of the CA the end of an order that was not
// finalized: nothing is lost by it.
func endIfDenied(err error) error {
	if isRefused(err) {
		return &endedError{err: err}
	}
	return err
}

// isRefused reports whether the CA refused a request and would refuse it again.
func isRefused(err error) bool {
	problem, ok := acmeclient.Problem(err)
	if !ok || problem.StatusCode < 400 || problem.StatusCode >= 500 || acmeclient.IsRateLimited(err) {
		return false
	}
	switch problem.StatusCode {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly:
		return false
	}
	return true
}

// pickChallenge returns the challenge that the CA is validating already, for an
// earlier conversation, or else that of the first of types that is offered.
func pickChallenge(z *acme.Authorization, types []string) *acme.Challenge {
	for _, c := range z.Challenges {
		if c.Status == acme.StatusProcessing && slices.Contains(types, c.Type) {
			return c
		}
	}
	for _, typ := range types {
		for _, c := range z.Challenges {
			if c.Type == typ {
				return c
			}
		}
	}
	return nil
}

// name returns the name that an authorization is for. With a single one, it can
// be no other, however the CA writes it.
func (c *conversation) name(z *acme.Authorization) string {
	if name, ok := nameOf(z.Identifier, c.req.Names); ok {
		return name
	}
	return c.req.Names[0]
}

// authorizationFailed returns the CA's reasons. If chal, the challenge that was
// tried, is not nil, only its error counts.
func authorizationFailed(z *acme.Authorization, chal *acme.Challenge) error {
	var causes []error
	for _, c := range z.Challenges {
		if e, ok := c.Error.(*acme.Error); ok && acmeclient.GivesReason(e) && len(causes) < maxReasons && (chal == nil || c.Type == chal.Type) {
			causes = append(causes, acmeclient.BoundProblem(e))
		}
	}
	if len(causes) == 0 {
		return failedObject(z.URI, fmt.Errorf("authorization %s is %q and the CA gave no reason", text.Line(z.URI, 64), brief(z.Status)))
	}
	return failedObject(z.URI, fmt.Errorf("authorization is %s: %w", brief(z.Status), text.Join(causes...)))
}

// objectError is a failure that the CA keeps under a URL of its own.
type objectError struct {
	url string
	err error
}

func failedObject(url string, err error) error { return &objectError{acmeclient.PlainURL(url), err} }

func (e *objectError) Error() string     { return e.err.Error() }
func (e *objectError) Unwrap() error     { return e.err }
func (e *objectError) FailedURL() string { return e.url }

// maxReasons is how many of the CA's reasons for a failed authorization are
// kept. An authorization usually fails by its first challenge (RFC 8555,
// section 7.1.6).
const maxReasons = 2

// brief bounds a word from the CA for use in an error.
func brief(word string) string { return text.OneLine(word, 64) }
