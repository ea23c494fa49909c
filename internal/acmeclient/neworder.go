package acmeclient

import (
	"context"
	"net/http"
	"slices"
	"time"

	"golang.org/x/crypto/acme"
)

// NewOrder makes an order for ids with a client of a CA. If certID is not empty the
// order says that it replaces the certificate with this CertID (RFC 9773, section
// 5), provided that the CA's directory offers renewal information.
//
// That must not keep anything from being renewed. Where the CA refuses an order
// that replaces something, and what it replaces may be why, the same order is made
// without. After an answer 5xx the order is tried again, as everything is
// (Pebble answers 500 for one certificate in 256); the second such answer makes the
// further tries go without, so that it costs no more requests than any outage. The
// CA may have made an order that it has not told of, and that is never known.
//
// without reports that the CA was asked to make the order without, so that later
// ones for the same certificate had better go without at once.
func NewOrder(ctx context.Context, client *acme.Client, ids []acme.AuthzID, certID string) (order *acme.Order, without bool, err error) {
	if certID == "" {
		order, err = client.AuthorizeOrder(ctx, ids)
		return order, false, err
	}
	r := &replaces{certID: certID, key: client.Key}
	order, err = client.AuthorizeOrder(context.WithValue(ctx, replacesKey{}, r), ids)
	switch {
	case r.without.Load():
		return order, true, err
	case !r.sent.Load(), ctx.Err() != nil, !refusesReplaces(order, err):
		return order, false, err
	}
	order, err = client.AuthorizeOrder(ctx, ids)
	return order, true, err
}

// refusesReplaces reports whether the outcome of an order that replaces a
// certificate may be due to that. RFC 9773, section 5, names 409 alreadyReplaced,
// and CAs have others for a certificate that is not this account's, or that they
// do not know or understand.
//
// It is not due to that if the answer is about something else (the account, an
// identifier, a limit), asks to wait, or is none.
func refusesReplaces(order *acme.Order, err error) bool {
	if err == nil { // an order that is over before it began leaves none open
		return order.Status == acme.StatusInvalid && order.Error != nil && kindOf(order.Error.ProblemType) == "alreadyreplaced"
	}
	p, ok := Problem(err)
	if !ok || IsRateLimited(err) {
		return false
	}
	kind := kindOf(p.ProblemType)
	if kind == "alreadyreplaced" {
		return true
	}
	_, wait := RetryAfter(p.Header, time.Now())
	if wait || slices.Contains(otherKinds(), kind) || namesIdentifier(p) {
		return false
	}
	switch p.StatusCode {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusTooEarly:
		return false
	}
	return p.StatusCode >= 400 && p.StatusCode <= 599
}

// otherKinds are the kinds of problems (RFC 8555, section 6.7) that
// are about something else than what an order replaces.
func otherKinds() []string {
	return []string{
		// the account and its requests
		"accountdoesnotexist", "externalaccountrequired", "useractionrequired", "unsupportedcontact", "invalidcontact",
		"badpublickey", "badsignaturealgorithm", "badnonce",
		// the identifiers, and what validating them met
		"rejectedidentifier", "unsupportedidentifier", "caa", "dns", "dnssec", "connection", "tls", "incorrectresponse",
		// the profile
		"invalidprofile",
	}
}

// namesIdentifier reports whether the problem is about single identifiers.
func namesIdentifier(p *acme.Error) bool {
	return slices.ContainsFunc(p.Subproblems, func(sub acme.Subproblem) bool { return sub.Identifier != nil })
}
