package conformance

import (
	"net/http"
	"strings"
)

const noStore = "RFC 8555, section 7.2: no-store is a must, so acmetest is right."

// nonceCases are about nonces and about the URL in the protected header.
var nonceCases = []testCase{
	refusal("no nonce is badNonce", "RFC 8555, section 6.5", 400, "badNonce", changeHeader("nonce", nil)),
	refusal("an unknown nonce is badNonce", "RFC 8555, section 6.5", 400, "badNonce", changeHeader("nonce", "AAAA")),
	refusal("an empty nonce is badNonce", "RFC 8555, section 6.5", 400, "badNonce", changeHeader("nonce", "")),
	refusal("a nonce that is not base64url is malformed", "RFC 8555, section 6.5.2", 400, "malformed",
		changeHeader("nonce", "a+b/")).
		pebbleSays(400, "badNonce", "RFC 8555, section 6.5.2: the JWS must be rejected as malformed, so acmetest is right."),
	refusal("a nonce that is a number is malformed", "RFC 8555, section 6.5.2", 400, "malformed", changeHeader("nonce", 1)),
	refusal("a request that was sent before is badNonce", "RFC 8555, section 6.5", 400, "badNonce",
		func(c *Client) Answer {
			body := c.Sign(Request{URL: c.Account})
			c.must(c.Do(Request{URL: c.Account, Body: body}), 200)
			return c.Do(Request{URL: c.Account, Body: body})
		}),
	refusal("a nonce of a request that was refused is used up", "RFC 8555, section 6.5", 400, "badNonce",
		func(c *Client) Answer {
			nonce := c.takeNonce()
			c.Do(Request{URL: c.url("newOrder"), Payload: "[]", Header: map[string]any{"nonce": nonce}})
			return c.Do(Request{URL: c.Account, Header: map[string]any{"nonce": nonce}})
		}),
	refusal("a nonce that another account used is used up", "RFC 8555, section 6.5", 400, "badNonce",
		func(c *Client) Answer {
			o, nonce := c.stranger(), c.takeNonce()
			c.must(o.Do(Request{URL: o.Account, Header: map[string]any{"nonce": nonce}}), 200)
			return c.Do(Request{URL: c.Account, Header: map[string]any{"nonce": nonce}})
		}),
	success("the nonce in a badNonce reply is good", "RFC 8555, section 6.5", 200,
		func(c *Client) Answer {
			refused := c.Do(Request{URL: c.Account, Header: map[string]any{"nonce": "AAAA"}})
			nonce := refused.Header.Get("Replay-Nonce")
			return c.Do(Request{URL: c.Account, Header: map[string]any{"nonce": nonce}})
		}),
	success("the nonces of two replies differ", "RFC 8555, section 6.5.1", 200,
		func(c *Client) Answer {
			a, b := c.newNonce(), c.newNonce()
			c.expect(a != b, "the nonce %s came twice", a)
			return c.Do(Request{URL: c.Account, Header: map[string]any{"nonce": a}})
		}),
	success("a request with a Replay-Nonce header is the client's fault alone", "RFC 8555, section 6.5.1", 200,
		func(c *Client) Answer {
			return c.Do(Request{URL: c.Account, HTTPHeader: http.Header{"Replay-Nonce": {"AAAA"}}})
		}).
		pebbleSays(400, "malformed", "RFC 8555, section 6.5.1: clients should not send it. Both may."),

	success("HEAD of newNonce is 200 with a nonce that is not to be stored", "RFC 8555, section 7.2", 200,
		func(c *Client) Answer {
			return c.nonceReply(c.Do(Request{Method: http.MethodHead, URL: c.url("newNonce")}))
		}).pebbleBreaks(noStore, "no-store"),
	success("GET of newNonce is 204 with a nonce that is not to be stored", "RFC 8555, section 7.2", 204,
		func(c *Client) Answer { return c.nonceReply(c.fetch(c.url("newNonce"))) }).
		pebbleBreaks(noStore, "no-store"),
	success("POST-as-GET of newNonce is as GET", "RFC 8555, section 6.3", 204,
		func(c *Client) Answer { return c.nonceReply(c.get(c.url("newNonce"))) }).
		pebbleBreaks(noStore, "no-store"),

	refusal("no url is refused", "RFC 8555, section 6.4.1", 400, "malformed", changeHeader("url", nil)),
	refusal("a url that is a number is malformed", "RFC 8555, section 6.4.1", 400, "malformed", changeHeader("url", 1)),
	urlRefusal("of another resource", func(c *Client) string { return c.url("newOrder") }),
	urlRefusal("with a query that was not asked for", func(c *Client) string { return c.Account + "?a" }),
	urlRefusal("in another spelling", func(c *Client) string { return strings.Replace(c.Account, "https://", "HTTPS://", 1) }),
	urlRefusal("without TLS", func(c *Client) string { return strings.Replace(c.Account, "https://", "http://", 1) }),
	urlRefusal("without a host", func(c *Client) string {
		_, rest, _ := strings.Cut(c.Account, "://")
		_, path, _ := strings.Cut(rest, "/")
		return "/" + path
	}),
}

// urlRefusal is about a url in the header that differs from the request's.
func urlRefusal(what string, url func(c *Client) string) testCase {
	return refusal("a url "+what+" is unauthorized", "RFC 8555, section 6.4", 403, "unauthorized",
		func(c *Client) Answer { return c.Do(Request{URL: c.Account, Header: map[string]any{"url": url(c)}}) }).
		pebbleSays(400, "malformed", "RFC 8555, section 6.4: it must be rejected as unauthorized, so acmetest is right.")
}

// nonceReply checks a reply of newNonce.
func (c *Client) nonceReply(a Answer) Answer {
	c.expect(a.Header.Get("Replay-Nonce") != "", "newNonce without a nonce: %v", a)
	c.expect(strings.Contains(a.Header.Get("Cache-Control"), "no-store"),
		"newNonce without Cache-Control: no-store, but with %q", a.Header.Get("Cache-Control"))
	c.expect(len(a.Body) == 0, "newNonce with a body: %v", a)
	return a
}
