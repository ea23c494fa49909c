package conformance

import (
	"encoding/base64"
	"strings"
)

// requestCases are about the form of the JWS. The request reads the account.
var requestCases = []testCase{
	refusal("another content type is 415", "RFC 8555, section 6.2", 415, "malformed",
		func(c *Client) Answer { return c.Do(Request{URL: c.Account, ContentType: "application/json"}) }),
	refusal("a content type with a parameter is 415", "RFC 8555, section 6.2", 415, "malformed",
		func(c *Client) Answer {
			return c.Do(Request{URL: c.Account, ContentType: "application/jose+json; charset=utf-8"})
		}),
	refusal("no content type is 415", "RFC 8555, section 6.2", 415, "malformed",
		func(c *Client) Answer { return c.Do(Request{URL: c.Account, ContentType: "-"}) }),
	refusal("a body that is no JSON is malformed", "RFC 8555, section 6.2", 400, "malformed", body("hello")),
	refusal("a JSON list is malformed", "RFC 8555, section 6.2", 400, "malformed", body("[]")),
	refusal("an empty body is malformed", "RFC 8555, section 6.2", 400, "malformed",
		func(c *Client) Answer { return c.Do(Request{URL: c.Account, Body: []byte{}}) }),
	refusal("a body of megabytes is refused", "RFC 9110, section 15.5.14", 413, "malformed",
		func(c *Client) Answer { return c.Do(Request{URL: c.Account, Body: make([]byte, 2<<20)}) }).
		pebbleSays(400, "malformed", "RFC 9110, section 15.5.14: it reads all and finds no JSON; both may."),
	refusal("something after the JWS is malformed", "RFC 8555, section 6.2", 400, "malformed",
		func(c *Client) Answer {
			return c.Do(Request{URL: c.Account, Body: append(c.Sign(Request{URL: c.Account}), "{}"...)})
		}),
	refusal("compact serialization is malformed", "RFC 8555, section 6.2", 400, "malformed",
		func(c *Client) Answer {
			jws := c.signed(Request{URL: c.Account})
			return c.Do(Request{URL: c.Account, Body: []byte(jws["protected"] + "." + jws["payload"] + "." + jws["signature"])})
		}),
	refusal("general serialization is malformed", "RFC 8555, section 6.2", 400, "malformed",
		changeJWS(func(jws map[string]any) {
			jws["signatures"] = []any{map[string]any{"protected": jws["protected"], "signature": jws["signature"]}}
			delete(jws, "protected")
			delete(jws, "signature")
		})),
	refusal("an empty list of signatures is malformed", "RFC 7515, section 7.2.2", 400, "malformed",
		changeJWS(func(jws map[string]any) { jws["signatures"] = []any{} })).
		pebbleSays(200, "", "RFC 7515, section 7.2.2: the member must not be there at all, so acmetest is right."),
	refusal("an unprotected header is malformed", "RFC 8555, section 6.2", 400, "malformed",
		changeJWS(func(jws map[string]any) { jws["header"] = map[string]any{"x": "y"} })),
	refusal("an empty unprotected header is malformed", "RFC 8555, section 6.2", 400, "malformed",
		changeJWS(func(jws map[string]any) { jws["header"] = map[string]any{} })),
	refusal("no payload is malformed", "RFC 8555, section 6.2", 400, "malformed",
		changeJWS(func(jws map[string]any) { delete(jws, "payload") })),
	refusal("the payload null is malformed", "RFC 8555, section 6.2", 400, "malformed",
		changeJWS(func(jws map[string]any) { jws["payload"] = nil })),
	refusal("a payload that is no string is malformed", "RFC 7515, section 7.2.2", 400, "malformed",
		changeJWS(func(jws map[string]any) { jws["payload"] = map[string]any{} })),
	refusal("no signature is malformed", "RFC 7515, section 7.2.2", 400, "malformed",
		changeJWS(func(jws map[string]any) { delete(jws, "signature") })),
	refusal("no protected header is malformed", "RFC 8555, section 6.2", 400, "malformed",
		changeJWS(func(jws map[string]any) { delete(jws, "protected") })).
		pebbleSays(400, "badSignatureAlgorithm", noAlgorithm).
		pebbleBreaks("", lacksAlgorithms),
	refusal("a padded signature is malformed", "RFC 8555, section 6.1", 400, "malformed",
		changeJWS(func(jws map[string]any) { jws["signature"] = jws["signature"].(string) + "==" })),
	refusal("a padded payload is malformed", "RFC 8555, section 6.1", 400, "malformed",
		func(c *Client) Answer { return c.spelled(`{"contact":[]}`, base64.URLEncoding) }),
	refusal("a payload in standard base64 is malformed", "RFC 8555, section 6.1", 400, "malformed",
		func(c *Client) Answer {
			// A payload whose encoding has a slash.
			return c.spelled(`{"contact":[],"x":"???"}`, base64.RawStdEncoding)
		}),
	refusal("a critical header parameter that is unknown is malformed", "RFC 7515, section 4.1.11", 400, "malformed",
		func(c *Client) Answer {
			return c.Do(Request{URL: c.Account, Header: map[string]any{"crit": []string{"x"}, "x": "y"}})
		}),
	refusal("a critical header parameter that is not there is malformed", "RFC 7515, section 4.1.11", 400, "malformed",
		changeHeader("crit", []string{"b64"})).
		pebbleSays(200, "", "RFC 7515, section 4.1.11: what it names must be in the header, so acmetest is right."),
	refusal("an unencoded payload is malformed", "RFC 8555, section 6.2", 400, "malformed",
		func(c *Client) Answer {
			return c.Do(Request{URL: c.Account, Header: map[string]any{"crit": []string{"b64"}, "b64": false}})
		}).
		pebbleSays(200, "", "RFC 8555, section 6.2: the option must not be used, so acmetest is right."),
	refusal("a protected header that is a list is malformed", "RFC 7515, section 4", 400, "malformed",
		changeJWS(func(jws map[string]any) { jws["protected"] = B64([]byte("[]")) })),
	refusal("a header parameter that occurs twice is malformed", "RFC 7515, section 4", 400, "malformed",
		func(c *Client) Answer {
			return c.withHeader(func(header string) string { return strings.Replace(header, "{", `{"alg":"ES256",`, 1) })
		}),
	success("unknown header parameters are ignored", "RFC 7515, section 4", 200, changeHeader("x", "y")),
	success("members of the JWS in any order are fine", "RFC 7515, section 7.2.2", 200,
		func(c *Client) Answer {
			jws := c.signed(Request{URL: c.Account})
			body := `{"signature":"` + jws["signature"] + `", "payload" : "","protected":"` + jws["protected"] + `"}`
			return c.Do(Request{URL: c.Account, Body: []byte(body)})
		}),
	success("a request without User-Agent is the client's fault alone", "RFC 8555, section 6.1", 200,
		func(c *Client) Answer { return c.Do(Request{URL: c.Account, UserAgent: "-"}) }).
		pebbleSays(400, "malformed", "RFC 8555, section 6.1 binds clients only: both may.").
		pebbleBreaks("The check comes before everything else.", lacksNonce, lacksIndex),
}

func body(text string) func(*Client) Answer {
	return func(c *Client) Answer { return c.Do(Request{URL: c.Account, Body: []byte(text)}) }
}

func changeJWS(change func(map[string]any)) func(*Client) Answer {
	return func(c *Client) Answer { return c.Do(Request{URL: c.Account, JWS: change}) }
}

func changeHeader(name string, value any) func(*Client) Answer {
	return func(c *Client) Answer {
		return c.Do(Request{URL: c.Account, Header: map[string]any{name: value}})
	}
}

// signed returns the members of a JWS.
func (c *Client) signed(r Request) map[string]string {
	c.t.Helper()
	members := make(map[string]string)
	r.JWS = func(jws map[string]any) {
		for name, value := range jws {
			members[name] = value.(string)
		}
	}
	c.Sign(r)
	return members
}

// spelled sends an update of the account whose payload is signed in another
// encoding.
func (c *Client) spelled(payload string, encoding *base64.Encoding) Answer {
	c.t.Helper()
	return c.Do(Request{URL: c.Account, JWS: func(jws map[string]any) {
		jws["payload"] = encoding.EncodeToString([]byte(payload))
		jws["signature"] = B64(signature(c.t, jws["protected"].(string)+"."+jws["payload"].(string), c.Key))
	}})
}

// withHeader sends a request whose protected header is edited as text before it
// is signed.
func (c *Client) withHeader(edit func(header string) string) Answer {
	c.t.Helper()
	return c.Do(Request{URL: c.Account, JWS: func(jws map[string]any) {
		header, err := base64.RawURLEncoding.DecodeString(jws["protected"].(string))
		if err != nil {
			c.t.Fatal(err)
		}
		jws["protected"] = B64([]byte(edit(string(header))))
		jws["signature"] = B64(signature(c.t, jws["protected"].(string)+".", c.Key))
	}})
}
