package conformance

import (
	"net/http"
	"path"
	"strings"
)

const noProblem = "RFC 8555, section 6.7: an error should have a problem document, so acmetest is right."

// resourceCases are about the directory, methods, and nonexistent resources.
var resourceCases = []testCase{
	success("the directory names the resources", "RFC 8555, section 7.1.1", 200,
		func(c *Client) Answer {
			a := c.fetch(c.ca.Directory)
			for _, name := range []string{"newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo"} {
				c.expect(strings.HasPrefix(a.Text(name), "https://"), "the directory has no URL for %s", name)
			}
			c.expect(a.Object["newAuthz"] == nil, "newAuthz is in the directory, but nobody implements pre-authorization")
			meta, ok := a.Object["meta"].(map[string]any)
			c.expect(ok, "meta is no object: %v", a)
			c.expect(text(meta, "termsOfService") != "", "the terms of service are missing: %v", a)
			return a
		}),
	success("the directory does not link to itself", "RFC 8555, section 7.1", 200,
		func(c *Client) Answer {
			a := c.fetch(c.ca.Directory)
			c.expect(len(a.links("index")) == 0, "Link: %v", a.Header.Values("Link"))
			return a
		}),
	success("POST-as-GET of the directory is as GET", "RFC 8555, section 6.3", 200,
		func(c *Client) Answer {
			a := c.get(c.ca.Directory)
			c.expect(a.Text("newOrder") == c.url("newOrder"), "the directory is %v", a)
			return a
		}),
	refusal("a POST with a payload to the directory is malformed", "RFC 8555, section 6.3", 400, "malformed",
		func(c *Client) Answer { return c.post(c.ca.Directory, "{}") }),
	success("GET needs no account", "RFC 8555, section 6.3", 200,
		func(c *Client) Answer {
			o := c.other()
			o.fetch(o.url("newNonce"))
			return o.fetch(o.ca.Directory)
		}),

	getRefusal("newAccount", func(c *Client) string { return c.url("newAccount") }),
	getRefusal("newOrder", func(c *Client) string { return c.url("newOrder") }),
	getRefusal("revokeCert", func(c *Client) string { return c.url("revokeCert") }),
	getRefusal("keyChange", func(c *Client) string { return c.url("keyChange") }),
	getRefusal("an account", func(c *Client) string { return c.Account }),
	getRefusal("an order", func(c *Client) string { return c.order(c.host("a")).url }),
	getRefusal("an authorization", func(c *Client) string { return c.order(c.host("a")).authorization() }),
	getRefusal("a challenge", func(c *Client) string { return c.someChallenge() }),
	getRefusal("a certificate", func(c *Client) string { return c.issue(c.host("a")).url() }),
	getRefusal("the list of orders", func(c *Client) string { return c.get(c.Account).Text("orders") }),
	refusal("PUT is 405", "RFC 8555, section 6.7", 405, "malformed",
		func(c *Client) Answer { return c.Do(Request{Method: http.MethodPut, URL: c.Account}) }),

	refusal("a path that leads nowhere is 404", "RFC 9110, section 15.5.5", 404, "malformed",
		func(c *Client) Answer {
			return c.get(strings.TrimSuffix(c.ca.Directory, path.Base(c.ca.Directory)) + "nothing")
		}).
		pebbleSays(404, "", noProblem).
		pebbleBreaks("Its mux answers.", lacksProblem, lacksNonce, lacksIndex),
	missingRefusal("order", func(c *Client) string { return c.order(c.host("a")).url }),
	missingRefusal("authorization", func(c *Client) string { return c.order(c.host("a")).authorization() }),
	missingRefusal("challenge", func(c *Client) string { return c.someChallenge() }),
	missingRefusal("certificate", func(c *Client) string { return c.issue(c.host("a")).url() }),
	refusal("an unknown order cannot be finalized", "RFC 9110, section 15.5.5", 404, "malformed",
		func(c *Client) Answer { return c.post(missing(c.order(c.host("a")).Text("finalize")), `{"csr":""}`) }),
	refusal("a resource has one URL", "RFC 8555, section 6.4", 404, "malformed",
		func(c *Client) Answer {
			u := c.order(c.host("a")).url
			id := path.Base(u)
			return c.get(strings.TrimSuffix(u, id) + "0" + id)
		}).
		pebbleSays(404, "", noProblem).
		pebbleBreaks("", lacksProblem),

	payloadRefusal("an order", func(c *Client) string { return c.order(c.host("a")).url }),
	payloadRefusal("a certificate", func(c *Client) string { return c.issue(c.host("a")).url() }),
	payloadRefusal("the list of orders", func(c *Client) string { return c.get(c.Account).Text("orders") }),
	payloadRefusal("newNonce", func(c *Client) string { return c.url("newNonce") }),
}

// getRefusal is about GET of a resource that is read by POST-as-GET or not at
// all.
func getRefusal(what string, url func(c *Client) string) testCase {
	return refusal("GET of "+what+" is 405", "RFC 8555, section 6.3", 405, "malformed",
		func(c *Client) Answer { return c.fetch(url(c)) })
}

// missingRefusal is about a nonexistent resource.
func missingRefusal(what string, url func(c *Client) string) testCase {
	return refusal("an unknown "+what+" is 404", "RFC 9110, section 15.5.5", 404, "malformed",
		func(c *Client) Answer { return c.get(missing(url(c))) }).
		pebbleSays(404, "", noProblem).
		pebbleBreaks("", lacksProblem)
}

// payloadRefusal is about a payload for a read-only resource.
func payloadRefusal(what string, url func(c *Client) string) testCase {
	return refusal("POST-as-GET of "+what+" with a payload is malformed", "RFC 8555, section 6.3", 400, "malformed",
		func(c *Client) Answer { return c.post(url(c), "{}") })
}

// someChallenge returns the URL of a challenge of a new order.
func (c *Client) someChallenge() string {
	c.t.Helper()
	return text(c.challenge(c.order(c.host("a")).authorization(), "http-01"), "url")
}
