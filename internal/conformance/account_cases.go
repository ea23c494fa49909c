package conformance

import (
	"net/http"
	"slices"
)

const (
	disagreement = "RFC 8555, section 7.3 names no type; that of section 7.3.3 is for terms that changed, and Boulder says " +
		"malformed: both may."
	whoeverAsks = "RFC 8555, section 6.3: it shows the account that asks, whatever the URL says. acmetest is right."
)

// accountCases are about creating and finding accounts.
var accountCases = []testCase{
	success("a new account is 201 with its URL, status and list of orders", "RFC 8555, section 7.3", 201,
		func(c *Client) Answer {
			a := c.other().newAccount(`{"termsOfServiceAgreed":true,"contact":["mailto:admin@example.com"]}`)
			c.expect(a.Text("status") == "valid", "the status is %q", a.Text("status"))
			c.expect(a.Text("orders") != "", "the account has no list of orders, which is required: %v", a)
			c.expect(slices.Equal(a.list("contact"), []string{"mailto:admin@example.com"}), "the contact is not shown: %v", a)
			return a
		}),
	success("two contacts are fine", "RFC 8555, section 7.3", 201,
		func(c *Client) Answer {
			a := c.other().newAccount(`{"termsOfServiceAgreed":true,"contact":["mailto:a@example.com","mailto:b@example.com"]}`)
			c.expect(len(a.list("contact")) == 2, "the contacts are not shown: %v", a)
			return a
		}),
	success("unknown members of a new account are ignored and not reflected", "RFC 8555, section 7.3", 201,
		func(c *Client) Answer {
			a := c.other().newAccount(`{"termsOfServiceAgreed":true,"x-unknown":1,"orders":"https://a.example.com/"}`)
			c.expect(a.Object["x-unknown"] == nil, "the unknown member is reflected: %v", a)
			c.expect(a.Text("orders") != "https://a.example.com/", "the client chose the list of orders: %v", a)
			return a
		}),
	success("a known key finds its account", "RFC 8555, section 7.3.1", 200,
		func(c *Client) Answer {
			a := c.newAccount(`{"termsOfServiceAgreed":true,"contact":["mailto:new@example.com"]}`)
			c.expect(a.Header.Get("Location") == c.Account, "Location is %q and not %s", a.Header.Get("Location"), c.Account)
			c.expect(a.Object["contact"] == nil, "the request changed the account: %v", a)
			return a
		}),
	success("onlyReturnExisting finds an account", "RFC 8555, section 7.3.1", 200,
		func(c *Client) Answer {
			a := c.newAccount(`{"onlyReturnExisting":true}`)
			c.expect(a.Header.Get("Location") == c.Account, "Location is %q and not %s", a.Header.Get("Location"), c.Account)
			c.expect(a.Text("status") == "valid", "the body is not the account: %v", a)
			return a
		}),
	refusal("onlyReturnExisting without an account is accountDoesNotExist", "RFC 8555, section 7.3.1", 400,
		"accountDoesNotExist", func(c *Client) Answer { return c.other().newAccount(`{"onlyReturnExisting":true}`) }),
	success("onlyReturnExisting makes no account", "RFC 8555, section 7.3", 201,
		func(c *Client) Answer {
			o := c.other()
			o.newAccount(`{"onlyReturnExisting":true,"termsOfServiceAgreed":true}`)
			return o.newAccount(`{"termsOfServiceAgreed":true}`)
		}),

	refusal("a new account without agreement to the terms is refused", "RFC 8555, section 7.3", 400, "malformed",
		func(c *Client) Answer { return c.other().newAccount(`{}`) }).
		pebbleSays(403, "userActionRequired", disagreement),
	refusal("a new account that disagrees with the terms is refused", "RFC 8555, section 7.3", 400, "malformed",
		func(c *Client) Answer { return c.other().newAccount(`{"termsOfServiceAgreed":false}`) }).
		pebbleSays(403, "userActionRequired", disagreement),
	accountRefusal("an agreement that is no boolean", `{"termsOfServiceAgreed":"yes"}`),
	accountRefusal("a contact that is no list", `{"contact":"mailto:a@example.com"}`),
	accountRefusal("no payload", ""),
	accountRefusal("a payload that is a list", "[]"),
	accountRefusal("a payload that is no JSON", "{"),
	contactRefusal("of another scheme", "unsupportedContact", "tel:+12025550100"),
	contactRefusal("without an address", "invalidContact", "mailto:"),
	contactRefusal("with two addresses", "invalidContact", "mailto:a@example.com,b@example.com"),
	contactRefusal("with header fields", "invalidContact", "mailto:a@example.com?subject=x").
		pebbleSays(201, "", "RFC 8555, section 7.3: hfields should be rejected, so acmetest is right."),
	contactRefusal("with a display name", "invalidContact", "mailto:A <a@example.com>").
		pebbleSays(201, "", "RFC 6068, section 2: this is no addr-spec, so acmetest is right."),
	contactRefusal("that is no ASCII", "invalidContact", "mailto:\u00fc@example.com"),
	contactRefusal("that is no URL", "invalidContact", "mailto:nobody"),

	refusal("another account cannot be read", "RFC 8555, section 6.3", 403, "unauthorized",
		func(c *Client) Answer { return c.get(c.stranger().Account) }).
		pebbleSays(200, "", whoeverAsks),
	refusal("another account cannot be deactivated", "RFC 8555, section 7.3.6", 403, "unauthorized",
		func(c *Client) Answer { return c.post(c.stranger().Account, `{"status":"deactivated"}`) }).
		pebbleSays(200, "", "RFC 8555, section 7.3.6: it deactivates the account that asks. acmetest is right."),
	refusal("an unknown account cannot be read", "RFC 8555, section 6.3", 403, "unauthorized",
		func(c *Client) Answer { return c.get(missing(c.Account)) }).
		pebbleSays(200, "", whoeverAsks),
}

// accountRefusal is about a malformed payload of newAccount.
func accountRefusal(what, payload string) testCase {
	return refusal("newAccount: "+what+" is malformed", "RFC 8555, section 7.3", http.StatusBadRequest, "malformed",
		func(c *Client) Answer { return c.other().newAccount(payload) })
}

// contactRefusal is about a contact of a new account that agrees to the terms.
func contactRefusal(what, problem, contact string) testCase {
	return refusal("a contact "+what+" is "+problem, "RFC 8555, section 7.3", http.StatusBadRequest, problem,
		func(c *Client) Answer {
			object := map[string]any{"termsOfServiceAgreed": true, "contact": []string{contact}}
			return c.other().newAccount(string(MustJSON(c.t, object)))
		})
}
