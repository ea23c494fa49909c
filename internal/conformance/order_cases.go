package conformance

import (
	"slices"
	"strings"
	"time"
)

// orderCases are about creating and reading orders.
var orderCases = []testCase{
	success("a new order is 201 with its URL, authorizations and where to finalize it", "RFC 8555, section 7.4", 201,
		func(c *Client) Answer {
			o := c.order(c.host("a"), c.host("b"))
			c.expect(o.Text("status") == "pending", "the status is %q", o.Text("status"))
			c.expect(len(o.list("authorizations")) == 2, "two names have %d authorizations", len(o.list("authorizations")))
			c.expect(strings.HasPrefix(o.Text("finalize"), "https://"), "finalize is %q", o.Text("finalize"))
			c.expect(o.Object["certificate"] == nil && o.Object["error"] == nil, "the order is %v", o)
			expires, err := time.Parse(time.RFC3339, o.Text("expires"))
			c.expect(err == nil && expires.After(time.Now()), "expires, which is required for pending, is %q", o.Text("expires"))
			c.expectIdentifiers(o.Answer, c.host("a"), c.host("b"))
			return o.Answer
		}),
	success("an order is read by POST-as-GET and stays as it is", "RFC 8555, section 7.1.3", 200,
		func(c *Client) Answer {
			o := c.order(c.host("a"), c.host("b"))
			a := c.get(o.url)
			c.expectIdentifiers(a, c.host("a"), c.host("b"))
			got, want := a.list("authorizations"), o.list("authorizations")
			slices.Sort(got)
			slices.Sort(want)
			c.expect(slices.Equal(got, want), "the authorizations changed from %v to %v", want, got)
			c.expect(a.Text("finalize") == o.Text("finalize"), "finalize moved to %s", a.Text("finalize"))
			return a
		}),
	success("a name that is asked for twice is in the order once", "RFC 8555, section 7.1.3", 201,
		func(c *Client) Answer {
			a := c.newOrder([]string{c.host("a"), c.host("a")})
			c.expectIdentifiers(a, c.host("a"))
			return a
		}),
	success("names are not sensitive to case", "RFC 5280, section 7.2", 201,
		func(c *Client) Answer {
			a := c.newOrder([]string{strings.ToUpper(c.host("a")), c.host("a")})
			c.expectIdentifiers(a, c.host("a"))
			return a
		}),
	success("unknown members of an order are ignored", "RFC 8555, section 7.3", 201,
		func(c *Client) Answer {
			a := c.newOrder([]string{c.host("a")}, "x-unknown", 1)
			c.expect(a.Object["x-unknown"] == nil, "the unknown member is reflected: %v", a)
			return a
		}),
	success("an order whose names are all validated is ready", "RFC 8555, section 7.1.6", 200,
		func(c *Client) Answer {
			o := c.order(c.host("a"), c.host("b"))
			for i, u := range o.list("authorizations") {
				c.validate(u, c.nameOf(c.get(u)))
				c.refresh(o)
				want := []string{"pending", "ready"}[i]
				c.expect(o.Text("status") == want, "after %d of 2 validations the order is %s", i+1, o.Text("status"))
			}
			return o.Answer
		}),
	success("orders for the same name are different", "RFC 8555, section 7.4", 201,
		func(c *Client) Answer {
			a, b := c.order(c.host("a")), c.order(c.host("a"))
			c.expect(a.url != b.url, "both are %s", a.url)
			return b.Answer
		}),

	orderRefusal("without identifiers", `{}`),
	orderRefusal("with an empty list of identifiers", `{"identifiers":[]}`),
	orderRefusal("whose identifiers are no list", `{"identifiers":{"type":"dns","value":"a.example.com"}}`),
	orderRefusal("whose identifiers are strings", `{"identifiers":["a.example.com"]}`),
	orderRefusal("whose identifier has a number as its value", `{"identifiers":[{"type":"dns","value":1}]}`),
	orderRefusal("whose identifier has no value", `{"identifiers":[{"type":"dns"}]}`),
	orderRefusal("that is a list", `[]`),
	orderRefusal("that is no JSON", `{`),
	orderRefusal("without a payload", ``),
	refusal("an order with a date that the CA does not choose is refused", "RFC 8555, section 7.4", 400, "malformed",
		func(c *Client) Answer { return c.newOrder([]string{c.host("a")}, "notAfter", "2030-01-01T00:00:00Z") }).
		pebbleSays(201, "", "RFC 8555, section 7.4: a CA that cannot fulfill it must refuse. Pebble can, public CAs and "+
			"acmetest do not: both may."),
	refusal("an order with a date that is none is refused", "RFC 8555, section 7.1.3", 400, "malformed",
		func(c *Client) Answer { return c.newOrder([]string{c.host("a")}, "notBefore", "tomorrow") }).
		pebbleSays(201, "", "RFC 8555, section 7.4: it must be refused as it cannot be fulfilled, so acmetest is right."),

	foreignRefusal("an order", func(c *Client) string { return c.order(c.host("a")).url }),
	foreignRefusal("an authorization", func(c *Client) string { return c.order(c.host("a")).authorization() }),
	foreignRefusal("a challenge", func(c *Client) string { return c.someChallenge() }),
	foreignRefusal("a certificate", func(c *Client) string { return c.issue(c.host("a")).url() }),
}

// orderRefusal is about a malformed order.
func orderRefusal(what, payload string) testCase {
	return refusal("an order "+what+" is malformed", "RFC 8555, section 7.4", 400, "malformed",
		func(c *Client) Answer { return c.post(c.url("newOrder"), payload) })
}

// foreignRefusal is about a resource of another account.
func foreignRefusal(what string, url func(c *Client) string) testCase {
	return refusal(what+" of another account cannot be read", "RFC 8555, section 6.3", 403, "unauthorized",
		func(c *Client) Answer { return c.get(url(c.stranger())) })
}

// expectIdentifiers complains unless an order is for these DNS names.
func (c *Client) expectIdentifiers(a Answer, want ...string) {
	var got []string
	for _, identifier := range a.objects("identifiers") {
		c.expect(text(identifier, "type") == "dns", "the identifier is %v", identifier)
		got = append(got, text(identifier, "value"))
	}
	slices.Sort(got)
	slices.Sort(want)
	c.expect(slices.Equal(got, want), "the order is for %v and not for %v", got, want)
}
