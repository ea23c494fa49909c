package conformance

import "time"

// authorizationCases are about authorizations.
var authorizationCases = []testCase{
	success("a pending authorization shows challenges that can be accepted", "RFC 8555, sections 7.1.4 and 8", 200,
		func(c *Client) Answer {
			a := c.get(c.order(c.host("a")).authorization())
			c.expect(a.Text("status") == "pending", "the status is %q", a.Text("status"))
			challenges := a.objects("challenges")
			c.expect(len(challenges) > 0, "there is no challenge: %v", a)
			for _, challenge := range challenges {
				typ := text(challenge, "type")
				c.expect(typ != "" && text(challenge, "url") != "" && text(challenge, "status") == "pending",
					"a challenge is %v", challenge)
				if typ == "http-01" || typ == "dns-01" || typ == "tls-alpn-01" {
					// 128 bits are 22 characters.
					token := text(challenge, "token")
					c.expect(len(token) >= 22 && base64urlText.MatchString(token), "the token of %s is %q", typ, token)
				}
			}
			return a
		}),
	success("a valid authorization shows the challenge that was validated, and until when it holds", section714, 200,
		func(c *Client) Answer {
			o := c.ready(c.host("a"))
			a := c.get(o.authorization())
			challenges := a.objects("challenges")
			c.expect(a.Text("status") == "valid" && len(challenges) == 1, "the authorization is %v", a)
			for _, challenge := range challenges {
				_, err := time.Parse(time.RFC3339, text(challenge, "validated"))
				c.expect(err == nil && text(challenge, "status") == "valid" && text(challenge, "type") == "http-01",
					"the challenge is %v", challenge)
			}
			expires, err := time.Parse(time.RFC3339, a.Text("expires"))
			c.expect(err == nil && expires.After(time.Now()), "expires, which is required for valid, is %q", a.Text("expires"))
			return a
		}),
	success("an invalid authorization shows the challenge that failed, and why", section714, 200,
		func(c *Client) Answer {
			o := c.failed(c.host("a"))
			a := c.get(o.authorization())
			challenges := a.objects("challenges")
			c.expect(a.Text("status") == "invalid" && len(challenges) == 1, "the authorization is %v", a)
			for _, challenge := range challenges {
				c.expect(text(challenge, "status") == "invalid" && challenge["error"] != nil, "the challenge is %v", challenge)
			}
			return a
		}),
	success("a pending authorization can be deactivated, and its order is invalid", "RFC 8555, section 7.5.2", 200,
		func(c *Client) Answer {
			o := c.order(c.host("a"))
			a := c.post(o.authorization(), deactivate)
			c.expect(a.Text("status") == "deactivated", "the authorization is %v", a)
			c.refresh(o)
			c.expect(o.Text("status") == "invalid", "the order is %v", o)
			return a
		}),
	success("a valid authorization can be deactivated, and its order is invalid", "RFC 8555, section 7.5.2", 200,
		func(c *Client) Answer {
			o := c.ready(c.host("a"))
			a := c.post(o.authorization(), deactivate)
			c.expect(a.Text("status") == "deactivated", "the authorization is %v", a)
			c.refresh(o)
			c.expect(o.Text("status") == "invalid", "the order is %v", o)
			return a
		}),
	success("a deactivated authorization stays so", "RFC 8555, section 7.5.2", 200,
		func(c *Client) Answer {
			o := c.order(c.host("a"))
			c.must(c.post(o.authorization(), deactivate), 200)
			a := c.get(o.authorization())
			c.expect(a.Text("status") == "deactivated", "the authorization is %v", a)
			return a
		}),
	success("a deactivated authorization is not used for another order", "RFC 8555, section 7.5.2", 201,
		func(c *Client) Answer {
			o := c.ready(c.host("a"))
			c.must(c.post(o.authorization(), deactivate), 200)
			again := c.order(c.host("a"))
			c.expect(again.authorization() != o.authorization() && again.Text("status") == "pending", "the order is %v", again)
			return again.Answer
		}),
	refusal("an authorization that is invalid cannot be deactivated", "RFC 8555, section 7.1.6", 400, "malformed",
		func(c *Client) Answer { return c.post(c.failed(c.host("a")).authorization(), deactivate) }).
		pebbleSays(200, "", "RFC 8555, section 7.1.6: no arrow leads from invalid to deactivated, so acmetest is right."),
	refusal("an authorization cannot be made valid", "RFC 8555, section 7.5.2", 400, "malformed",
		func(c *Client) Answer { return c.post(c.order(c.host("a")).authorization(), `{"status":"valid"}`) }),
	refusal("an update of an authorization with nothing is malformed", "RFC 8555, section 7.5.2", 400, "malformed",
		func(c *Client) Answer { return c.post(c.order(c.host("a")).authorization(), `{}`) }),
	refusal("an update of an authorization that is a list is malformed", "RFC 8555, section 7.5.2", 400, "malformed",
		func(c *Client) Answer { return c.post(c.order(c.host("a")).authorization(), `[]`) }),
	refusal("another account's authorization cannot be deactivated", "RFC 8555, section 7.5.2", 403, "unauthorized",
		func(c *Client) Answer { return c.post(c.stranger().order(c.host("a")).authorization(), deactivate) }),
}

// failed returns an order whose first name failed its validation.
func (c *Client) failed(name string) *order {
	c.t.Helper()
	o := c.order(name)
	c.serveWrong(name)
	a := c.accept(text(c.challenge(o.authorization(), "http-01"), "url"))
	if a.Text("status") != "invalid" {
		c.t.Fatalf("the challenge should have failed: %v", a)
	}
	return o
}
