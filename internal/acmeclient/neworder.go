package acmeclient

import (
	"context"
	"net/http"
	"slices"
	"time"

	"golang.org/x/crypto/acme"
)

// NewOrder places an order for ids, with a profile that the directory lists
// unless that is empty. If certID is not empty, the order says that
// it replaces the certificate with this CertID (RFC 9773, section 5), provided
// that the CA's directory offers renewal information.
//
// The replaces field must not prevent a renewal. If the CA refuses the order,
// possibly because of the field, the same order is placed without it. After a
// 5xx the order is retried as usual (Pebble answers 500 for one certificate in
// 256). After a second 5xx the field is left out of further retries, so it
// costs no more requests than any outage. The CA may have created an order that
// it did not report, and nothing can find that out.
//
// without reports that an order was sent without the field. Later orders for
// the same certificate should leave it out from the start.
func NewOrder(ctx context.Context, client *acme.Client, ids []acme.AuthzID, profile, certID string) (order *acme.Order, without bool, err error) {
	var options []acme.OrderOption
	if profile != "" {
		options = append(options, acme.WithOrderIssuanceProfile(acme.ProfileName(profile)))
	}
	if certID == "" {
		order, err = client.AuthorizeOrder(ctx, ids, options...)
		return order, false, err
	}
	r := &replaces{certID: certID, key: client.Key}
	order, err = client.AuthorizeOrder(context.WithValue(ctx, replacesKey{}, r), ids, options...)
	switch {
	case r.without.Load():
		return order, true, err
	case !r.sent.Load(), ctx.Err() != nil, !refusesReplaces(order, err):
		return order, false, err
	}
	order, err = client.AuthorizeOrder(ctx, ids, options...)
	return order, true, err
}

// refusesReplaces reports whether the outcome of an order with replaces may be
// due to that field. RFC 9773, section 5, names 409 alreadyReplaced. CAs use
// other problems for a certificate of another account, or one that they do not
// know or understand.
//
// It is not due to the field if the problem is about something else (the
// account, an identifier, a limit), if the CA asks to wait, or if there is no
// response.
func refusesReplaces(order *acme.Order, err error) bool {
	if err == nil { // an order that is invalid from the start is not left open
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

// otherKinds returns the kinds of problems (RFC 8555, section 6.7) that have
// nothing to do with replaces.
func otherKinds() []string {
	return []string{
		// about the account and its requests
		"accountdoesnotexist", "externalaccountrequired", "useractionrequired", "unsupportedcontact", "invalidcontact",
		"badpublickey", "badsignaturealgorithm", "badnonce",
		// about the identifiers and their validation
		"rejectedidentifier", "unsupportedidentifier", "caa", "dns", "dnssec", "connection", "tls", "incorrectresponse",
		// about the profile
		"invalidprofile",
	}
}

// namesIdentifier reports whether the problem is about individual identifiers.
func namesIdentifier(p *acme.Error) bool {
	return slices.ContainsFunc(p.Subproblems, func(sub acme.Subproblem) bool { return sub.Identifier != nil })
}
