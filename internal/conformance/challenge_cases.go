package conformance

import (
	"io"
	"net/http"
	"slices"
)

// challengeCases are about requests to challenges. Cases that depend on
// Pebble's validation never read an authorization that has its final status:
// see accept.
var challengeCases = []testCase{
	success("accepting a challenge shows it, and where its authorization is", "RFC 8555, section 7.5.1", 200,
		func(c *Client) Answer {
			o := c.order(c.host("a"))
			c.serve(c.host("a"))
			u := text(c.challenge(o.authorization(), "http-01"), "url")
			a := c.post(u, "{}")
			c.expect(a.Text("url") == u && a.Text("type") == "http-01", "the challenge is %v", a)
			c.expect(a.Text("status") != "invalid", "the challenge is %v", a)
			c.expect(slices.Equal(a.links("up"), []string{o.authorization()}), "Link: %v", a.Header.Values("Link"))
			return a
		}),
	success("a challenge is read by POST-as-GET, which does not accept it", "RFC 8555, section 7.5.1", 200,
		func(c *Client) Answer {
			o := c.order(c.host("a"))
			u := text(c.challenge(o.authorization(), "http-01"), "url")
			c.get(u)
			a := c.get(u)
			c.expect(a.Text("status") == "pending", "the challenge is %v", a)
			c.expect(slices.Equal(a.links("up"), []string{o.authorization()}), "no link up: %v", a.Header.Values("Link"))
			return a
		}).
		pebbleBreaks("RFC 8555, section 7.1: the relation is used with challenge resources, so acmetest is right.", "no link up"),
	success("unknown members of a response are ignored", "RFC 8555, section 7.5.1", 200,
		func(c *Client) Answer { return c.post(c.someChallenge(), `{"x-unknown":1}`) }),
	success("the key authorization in a response, as in old drafts, is ignored", "RFC 8555, section 7.5.1", 200,
		func(c *Client) Answer { return c.post(c.someChallenge(), `{"keyAuthorization":"a.b"}`) }).
		pebbleSays(400, "malformed", "RFC 8555, section 7.5.1: members that the challenge type does not define must be ignored, "+
			"so acmetest is right."),
	refusal("a response that is a list is malformed", "RFC 8555, section 7.5.1", 400, "malformed",
		func(c *Client) Answer { return c.post(c.someChallenge(), `[]`) }),
	refusal("a response that is no JSON is malformed", "RFC 8555, section 7.5.1", 400, "malformed",
		func(c *Client) Answer { return c.post(c.someChallenge(), `{`) }),
	refusal("another account's challenge cannot be accepted", "RFC 8555, section 7.5.1", 403, "unauthorized",
		func(c *Client) Answer { return c.post(c.stranger().someChallenge(), `{}`) }),
	refusal("another challenge of an authorization that failed is refused", "RFC 8555, section 7.1.6", 400, "malformed",
		func(c *Client) Answer {
			o := c.order(c.host("a"))
			other := text(c.challenge(o.authorization(), "tls-alpn-01"), "url")
			c.serveWrong(c.host("a"))
			c.accept(text(c.challenge(o.authorization(), "http-01"), "url"))
			return c.post(other, "{}")
		}).
		pebbleSays(200, "", "RFC 8555, section 7.1.6: an invalid authorization stays so, hence acmetest is right."),
	refusal("a challenge of a deactivated authorization is refused", "RFC 8555, section 7.1.6", 400, "malformed",
		func(c *Client) Answer {
			o := c.order(c.host("a"))
			u := text(c.challenge(o.authorization(), "dns-01"), "url")
			c.must(c.post(o.authorization(), deactivate), 200)
			return c.post(u, "{}")
		}).
		notOnPebble("RFC 8555, section 7.1.6: it does not look at the authorization, and hangs for ever, as showing an " +
			"authorization that is not pending leaves its challenges locked. acmetest is right."),
	success("a challenge that is valid may be responded to again, which changes nothing", "RFC 8555, section 8.2", 200,
		func(c *Client) Answer {
			o := c.order(c.host("a"))
			c.serve(c.host("a"))
			u := text(c.challenge(o.authorization(), "http-01"), "url")
			c.accept(u)
			c.serveWrong(c.host("a"))
			a := c.post(u, "{}")
			c.expect(c.get(u).Text("status") == "valid", "the challenge is not valid any more")
			return a
		}).
		pebbleSays(400, "malformed", "RFC 8555, section 8.2 lets clients respond again but is about challenges that are not "+
			"decided: both may."),
}

// serveWrong makes a name give wrong answers to http-01 challenges.
func (c *Client) serveWrong(name string) {
	c.t.Helper()
	c.serveHTTP(name, func(w http.ResponseWriter, _ string) { _, _ = io.WriteString(w, "wrong") })
}
