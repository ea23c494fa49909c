package conformance

import (
	"fmt"
	"net/http"
	"slices"
)

const deactivate = `{"status":"deactivated"}`

// accountUpdateCases are about reading, changing and deactivating accounts, and
// their lists of orders.
var accountUpdateCases = []testCase{
	success("an account is read by POST-as-GET", "RFC 8555, section 7.3.2", 200,
		func(c *Client) Answer {
			a := c.get(c.Account)
			c.expect(a.Text("status") == "valid" && a.Text("orders") != "", "the account is %v", a)
			return a
		}),
	success("an update of the contacts shows and keeps them", "RFC 8555, section 7.3.2", 200,
		func(c *Client) Answer {
			a := c.post(c.Account, `{"contact":["mailto:new@example.com"]}`)
			for _, account := range []Answer{a, c.get(c.Account)} {
				c.expect(slices.Equal(account.list("contact"), []string{"mailto:new@example.com"}), "the contact is old: %v", account)
			}
			return a
		}),
	success("an update can remove the contacts", "RFC 8555, section 7.3.2", 200,
		func(c *Client) Answer {
			c.must(c.post(c.Account, `{"contact":["mailto:new@example.com"]}`), 200)
			a := c.post(c.Account, `{"contact":[]}`)
			c.expect(len(c.get(c.Account).list("contact")) == 0, "the contact is still there")
			return a
		}),
	success("an update of what cannot be updated is ignored", "RFC 8555, section 7.3.2", 200,
		func(c *Client) Answer {
			orders := c.get(c.Account).Text("orders")
			a := c.post(c.Account, `{"contact":[],"orders":"https://a.example.com/","termsOfServiceAgreed":false,"x-unknown":1}`)
			c.expect(a.Text("orders") == orders, "the list of orders moved to %s", a.Text("orders"))
			c.expect(a.Object["x-unknown"] == nil, "the unknown member is reflected: %v", a)
			return a
		}),
	success("an update of nothing is fine", "RFC 8555, section 7.3.2", 200,
		func(c *Client) Answer { return c.post(c.Account, "{}") }).
		pebbleSays(400, "malformed", "RFC 8555, section 7.3.2 does not forbid it, so acmetest is right."),
	success("an update with the status that it has is fine", "RFC 8555, section 7.3.2", 200,
		func(c *Client) Answer { return c.post(c.Account, `{"status":"valid"}`) }).
		pebbleSays(400, "malformed", "RFC 8555, section 7.3.2: the status must be ignored, so acmetest is right."),
	// RFC 8555, section 7.3.2, says that other statuses must be ignored.
	// Boulder, Pebble and acmetest refuse them: otherwise the client would
	// never learn that its request had no effect.
	refusal("an update to a made-up status is malformed", "RFC 8555, section 7.3.2", 400, "malformed",
		func(c *Client) Answer { return c.post(c.Account, `{"status":"revoked"}`) }),
	refusal("an update to a bad contact is invalidContact", "RFC 8555, section 7.3", 400, "invalidContact",
		func(c *Client) Answer { return c.post(c.Account, `{"contact":["mailto:nobody"]}`) }),
	refusal("an update to another scheme is unsupportedContact", "RFC 8555, section 7.3", 400, "unsupportedContact",
		func(c *Client) Answer { return c.post(c.Account, `{"contact":["https://example.com/"]}`) }),
	success("an update that is refused changes nothing", "RFC 8555, section 7.3.2", 200,
		func(c *Client) Answer {
			c.post(c.Account, `{"contact":["mailto:new@example.com"]}`)
			c.post(c.Account, `{"contact":["mailto:other@example.com","mailto:nobody"]}`)
			a := c.get(c.Account)
			c.expect(slices.Equal(a.list("contact"), []string{"mailto:new@example.com"}), "the contact changed: %v", a)
			return a
		}),

	success("deactivation shows the account deactivated", "RFC 8555, section 7.3.6", 200,
		func(c *Client) Answer {
			a := c.post(c.Account, deactivate)
			c.expect(a.Text("status") == "deactivated", "the account is %v", a)
			return a
		}),
	deactivatedRefusal("cannot be read", func(c *Client) Answer { return c.get(c.Account) }),
	deactivatedRefusal("cannot be made valid", func(c *Client) Answer { return c.post(c.Account, `{"status":"valid"}`) }),
	deactivatedRefusal("cannot order", func(c *Client) Answer { return c.newOrder([]string{c.host("a")}) }),
	deactivatedRefusal("cannot be made anew", func(c *Client) Answer { return c.newAccount(`{"termsOfServiceAgreed":true}`) }),
	deactivatedRefusal("cannot be found", func(c *Client) Answer { return c.newAccount(`{"onlyReturnExisting":true}`) }),

	success("the list of orders is complete, page by page", "RFC 8555, section 7.1.2.1", 200,
		func(c *Client) Answer {
			var want []string
			for i := range 5 { // more than a page
				want = append(want, c.order(c.host(fmt.Sprint("a", i))).url)
			}
			a, got := c.listOrders()
			slices.Sort(want)
			c.expect(slices.Equal(got, want), "the list is %v and not %v", got, want)
			return a
		}),
	success("the list of orders leaves out those that are invalid", "RFC 8555, section 7.1.2.1", 200,
		func(c *Client) Answer {
			dead, alive := c.order(c.host("a")), c.order(c.host("b"))
			c.must(c.post(dead.authorization(), deactivate), 200)
			a, got := c.listOrders()
			c.expect(slices.Equal(got, []string{alive.url}), "the list is %v and not [%s]", got, alive.url)
			return a
		}),
	success("the list of orders may be empty, but is there", "RFC 8555, section 7.1.2.1", 200,
		func(c *Client) Answer {
			a, got := c.listOrders()
			c.expect(len(got) == 0, "the list is %v", got)
			_, ok := a.Object["orders"].([]any)
			c.expect(ok, "there is no list: %v", a)
			return a
		}),
	refusal("another account's list of orders is refused", "RFC 8555, section 6.3", 403, "unauthorized",
		func(c *Client) Answer {
			o := c.stranger()
			return c.get(o.get(o.Account).Text("orders"))
		}).
		pebbleSays(404, "malformed", "RFC 8555, section 6.3 demands access control and names no status: both may."),
}

// deactivatedRefusal is about requests signed by a deactivated account's key.
func deactivatedRefusal(what string, do func(c *Client) Answer) testCase {
	return refusal("a deactivated account "+what, "RFC 8555, section 7.3.6", http.StatusUnauthorized, "unauthorized",
		func(c *Client) Answer {
			c.must(c.post(c.Account, deactivate), http.StatusOK)
			return do(c)
		}).
		pebbleSays(403, "unauthorized", "RFC 8555, section 7.3.6: it must be 401, so acmetest is right.")
}

// listOrders reads all pages of the account's list of orders. It returns the
// first and all URLs, sorted.
func (c *Client) listOrders() (first Answer, urls []string) {
	c.t.Helper()
	next := c.must(c.get(c.Account), http.StatusOK).Text("orders")
	for page := 0; next != ""; page++ {
		a := c.must(c.get(next), http.StatusOK)
		if page == 0 {
			first = a
		}
		urls = append(urls, a.list("orders")...)
		next = ""
		if links := a.links("next"); len(links) > 0 {
			next = links[0]
		}
	}
	slices.Sort(urls)
	return first, urls
}
