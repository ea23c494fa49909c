package conformance

import "net/http"

const section5 = "RFC 9773, section 5"

// replacesCases are about orders that replace a certificate.
var replacesCases = []testCase{
	success("an order can replace a certificate, and says so from then on", section5, 201,
		func(c *Client) Answer {
			id := certID(c.issue(c.host("a")).leaf())
			o := c.orderWith([]string{c.host("a")}, "replaces", id)
			created := o.Answer
			c.authorize(o)
			cert := c.complete(o, newKey(c.t))
			for _, a := range []Answer{created, cert.order.Answer} {
				c.expect(a.Text("replaces") == id, "replaces is %q and not %q", a.Text("replaces"), id)
			}
			return created
		}),
	success("an order that replaces a certificate may have other names besides", section5, 201,
		func(c *Client) Answer {
			id := certID(c.issue(c.host("a"), c.host("b")).leaf())
			return c.newOrder([]string{c.host("b"), c.host("c")}, "replaces", id)
		}),
	success("a certificate whose replacement came to nothing can be replaced", section5, 201,
		func(c *Client) Answer {
			id := certID(c.issue(c.host("a")).leaf())
			o := c.orderWith([]string{c.host("a")}, "replaces", id)
			c.must(c.post(o.authorization(), deactivate), http.StatusOK)
			return c.newOrder([]string{c.host("a")}, "replaces", id)
		}),
	success("a replacement can be replaced", section5, 201,
		func(c *Client) Answer {
			o := c.orderWith([]string{c.host("a")}, "replaces", certID(c.issue(c.host("a")).leaf()))
			c.authorize(o)
			second := c.complete(o, newKey(c.t))
			if second.leaf().SerialNumber.BitLen()%8 == 0 { // see issue
				second = c.issue(c.host("a"))
			}
			return c.newOrder([]string{c.host("a")}, "replaces", certID(second.leaf()))
		}),
	refusal("a second order that replaces a certificate is alreadyReplaced", section5, 409, "alreadyReplaced",
		func(c *Client) Answer {
			id := certID(c.issue(c.host("a")).leaf())
			o := c.orderWith([]string{c.host("a")}, "replaces", id)
			c.authorize(o)
			c.complete(o, newKey(c.t))
			// Pebble records the replacement after it has issued.
			var a Answer
			for range maxPolls {
				if a = c.newOrder([]string{c.host("a")}, "replaces", id); a.Status != http.StatusCreated {
					break
				}
			}
			return a
		}),
	refusal("a second order is alreadyReplaced while the first is pending", section5, 409, "alreadyReplaced",
		func(c *Client) Answer {
			id := certID(c.issue(c.host("a")).leaf())
			c.orderWith([]string{c.host("a")}, "replaces", id)
			return c.newOrder([]string{c.host("a")}, "replaces", id)
		}).
		pebbleSays(201, "", "RFC 9773, section 5: an order that is not invalid counts, so acmetest is right."),
	refusal("an order that replaces another account's certificate is unauthorized", section5, 403, "unauthorized",
		func(c *Client) Answer {
			id := certID(c.stranger().issue(c.host("a")).leaf())
			return c.newOrder([]string{c.host("a")}, "replaces", id)
		}),
	refusal("an order that shares no name with what it replaces is malformed", section5, 400, "malformed",
		func(c *Client) Answer {
			id := certID(c.issue(c.host("a")).leaf())
			return c.newOrder([]string{c.host("b")}, "replaces", id)
		}).
		pebbleSays(500, "serverInternal", "RFC 9773, section 5: it is the client's fault, so acmetest is right."),
	refusal("an order that replaces an unknown certificate is 404", section5, 404, "malformed",
		func(c *Client) Answer {
			id := B64(c.issue(c.host("a")).leaf().AuthorityKeyId) + ".B2VDIQ"
			return c.newOrder([]string{c.host("a")}, "replaces", id)
		}).
		pebbleSays(500, "serverInternal", "RFC 9773, section 5: it is the client's fault, so acmetest is right."),
	refusal("an order that replaces another CA's certificate is 404", section5, 404, "malformed",
		func(c *Client) Answer {
			return c.newOrder([]string{c.host("a")}, "replaces", "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
		}).
		pebbleSays(400, "malformed", "RFC 9773, section 5 names no status: both may."),
	refusal("an order that replaces something that is no identifier is malformed", section5, 400, "malformed",
		func(c *Client) Answer { return c.newOrder([]string{c.host("a")}, "replaces", "www.example.com") }),
	refusal("an order that replaces a number is malformed", section5, 400, "malformed",
		func(c *Client) Answer { return c.newOrder([]string{c.host("a")}, "replaces", 1) }),
}
