package conformance

import (
	"slices"
	"strings"
)

const (
	section714 = "RFC 8555, section 7.1.4"
	section42  = "RFC 5280, section 4.2.1.6"

	notAName  = "RFC 5280, section 4.2.1.6: no such name can be in a certificate, so acmetest is right."
	notALabel = "RFC 8555, section 7.1.4: it must verify A-labels, so acmetest is right."
	otherForm = "RFC 8738, section 3: the form must be that of RFC 5952, so acmetest is right."
)

// identifierCases are about names that can or cannot be ordered, wildcards and
// IP addresses.
var identifierCases = []testCase{
	nameRefusal("that is empty", section714, "malformed", ""),
	nameRefusal("that is an IP address", "RFC 8738, section 3", "malformed", "192.0.2.1"),
	nameRefusal("with a trailing dot", section42, "malformed", "a.example.com."),
	nameRefusal("with an underscore", section42, "malformed", "a_b.example.com"),
	nameRefusal("with a space", section42, "malformed", "a b.example.com"),
	nameRefusal("with a port", section714, "malformed", "a.example.com:443"),
	nameRefusal("that is no ASCII", section714, "malformed", "b\u00fccher.example.com"),
	nameRefusal("that is too long", section42, "malformed", strings.Repeat("a.", 124)+"example.com"),
	nameRefusal("with an empty label", section42, "malformed", "a..example.com").
		pebbleSays(201, "", notAName),
	nameRefusal("with a label that begins with a hyphen", section42, "malformed", "-a.example.com").
		pebbleSays(201, "", notAName),
	nameRefusal("with a label of 64 bytes", section42, "malformed", strings.Repeat("a", 64)+".example.com").
		pebbleSays(201, "", notAName),
	nameRefusal("with an A-label that ends too early", section714, "malformed", "xn--z.example.com").
		pebbleSays(201, "", notALabel),
	nameRefusal("with an A-label beyond Unicode", section714, "malformed", "xn--99999999.example.com").
		pebbleSays(201, "", notALabel),
	nameRefusal("with an A-label of nothing", section714, "malformed", "a.xn--abc-.example.com").
		pebbleSays(201, "", notALabel),
	success("an A-label is fine", section714, 201,
		func(c *Client) Answer { return c.newOrder([]string{"xn--bcher-kva." + c.host("a")}) }),
	nameRefusal("that has one label", "RFC 8555, section 7.4", "rejectedIdentifier", "localhost").
		pebbleSays(201, "", "RFC 8555, section 7.4: which names it issues for is the CA's choice. Both may."),
	nameRefusal("with a wildcard in a wildcard", "RFC 8555, section 7.1.3", "malformed", "*.*.example.com"),
	nameRefusal("with a wildcard that is not the first label", "RFC 8555, section 7.1.3", "malformed", "a.*.example.com"),
	nameRefusal("with a wildcard for a part of a label", "RFC 8555, section 7.1.3", "malformed", "a*.example.com"),
	nameRefusal("that is a bare wildcard", "RFC 8555, section 7.1.3", "malformed", "*"),
	refusal("an identifier of an unknown type is unsupportedIdentifier", "RFC 8555, section 6.7", 400,
		"unsupportedIdentifier", func(c *Client) Answer {
			return c.post(c.url("newOrder"), `{"identifiers":[{"type":"email","value":"a@example.com"}]}`)
		}).
		pebbleSays(400, "malformed", "RFC 8555, section 6.7 has unsupportedIdentifier for this, so acmetest is right."),
	refusal("an identifier without a type is unsupportedIdentifier", "RFC 8555, section 6.7", 400,
		"unsupportedIdentifier", func(c *Client) Answer {
			return c.post(c.url("newOrder"), `{"identifiers":[{"value":"a.example.com"}]}`)
		}).
		pebbleSays(400, "malformed", "RFC 8555, section 7.4: a required member is missing, which may be either."),
	refusal("an identifier whose value is called VALUE has none", "RFC 8259, section 4", 400, "malformed",
		func(c *Client) Answer {
			return c.post(c.url("newOrder"), `{"identifiers":[{"type":"dns","VALUE":"`+c.host("a")+`"}]}`)
		}).
		pebbleSays(201, "", "RFC 8259, section 8.3: names are compared exactly, so acmetest is right."),
	refusal("an identifier with two values is malformed", "RFC 8259, section 4", 400, "malformed",
		func(c *Client) Answer {
			return c.post(c.url("newOrder"), `{"identifiers":[{"type":"dns","value":"`+c.host("b")+`","value":"`+c.host("a")+`"}]}`)
		}).
		pebbleSays(201, "", "RFC 8259, section 4: names should be unique. Both may."),
	refusal("an order with two bad names says which", "RFC 8555, section 6.7.1", 400, "malformed",
		func(c *Client) Answer {
			a := c.newOrder([]string{c.host("a"), "b_.example.com", "c_.example.com"})
			var got []string
			for _, sub := range a.objects("subproblems") {
				identifier, _ := sub["identifier"].(map[string]any)
				got = append(got, text(identifier, "value"))
				c.expect(strings.HasPrefix(text(sub, "type"), errorPrefix), "a subproblem's type is %q", text(sub, "type"))
			}
			c.expect(slices.Equal(got, []string{"b_.example.com", "c_.example.com"}), "the subproblems are about %v", got)
			return a
		}).
		pebbleBreaks("RFC 8555, section 6.7.1: subproblems are optional. Both may.", "the subproblems are about []"),

	success("a wildcard's authorization is for its base, and says so", section714, 200,
		func(c *Client) Answer {
			a := c.get(c.order("*." + c.host("a")).authorization())
			identifier, _ := a.Object["identifier"].(map[string]any)
			c.expect(text(identifier, "value") == c.host("a"), "the identifier is %v", identifier)
			c.expect(a.Object["wildcard"] == true, "it does not say that it is for a wildcard: %v", a)
			return a
		}),
	success("a name's authorization does not say that it is for a wildcard", section714, 200,
		func(c *Client) Answer {
			a := c.get(c.order(c.host("a")).authorization())
			c.expect(a.Object["wildcard"] != true, "it says so: %v", a)
			return a
		}),
	success("a wildcard is validated by DNS alone", "Baseline Requirements, section 3.2.2.4", 200,
		func(c *Client) Answer {
			a := c.get(c.order("*." + c.host("a")).authorization())
			types := challengeTypes(a)
			c.expect(slices.Contains(types, "dns-01"), "dns-01 is not offered: %v", types)
			c.expect(!slices.Contains(types, "http-01") && !slices.Contains(types, "tls-alpn-01"), "offered are %v", types)
			return a
		}),
	success("a certificate for a wildcard and its base needs both", "RFC 8555, section 7.1.3", 200,
		func(c *Client) Answer {
			cert := c.issue("*."+c.host("a"), c.host("a"))
			c.expect(len(cert.order.list("authorizations")) == 2, "the order is %v", cert.order)
			c.expectNames(cert, "*."+c.host("a"), c.host("a"))
			return cert.order.Answer
		}),

	success("an IP address is validated by http-01 or tls-alpn-01", "RFC 8738, sections 4 and 7", 200,
		func(c *Client) Answer {
			a := c.get(c.order(c.ca.Address).authorization())
			identifier, _ := a.Object["identifier"].(map[string]any)
			c.expect(text(identifier, "type") == "ip" && text(identifier, "value") == c.ca.Address,
				"the identifier is %v", identifier)
			types := challengeTypes(a)
			slices.Sort(types)
			c.expect(slices.Equal(types, []string{"http-01", "tls-alpn-01"}), "offered are %v", types)
			return a
		}),
	success("a certificate can be for an IP address", "RFC 8738, section 3", 200,
		func(c *Client) Answer {
			cert := c.issueForAddress("http-01")
			c.expectNames(cert, c.ca.Address)
			return cert.order.Answer
		}),
	success("tls-alpn-01 asks for an IP address by its name in reverse DNS", "RFC 8738, section 6", 200,
		func(c *Client) Answer {
			cert := c.issueForAddress("tls-alpn-01")
			c.expectNames(cert, c.ca.Address)
			return cert.order.Answer
		}),
	addressRefusal("that is a DNS name", "a.example.com"),
	addressRefusal("with a port", "192.0.2.1:443"),
	addressRefusal("with a prefix length", "192.0.2.0/24"),
	addressRefusal("that is empty", ""),
	addressRefusal("with a zone", "fe80::1%eth0"),
	addressRefusal("in brackets", "[2001:db8::1]"),
	addressRefusal("in upper case", "2001:DB8::1").
		pebbleSays(201, "", otherForm),
	addressRefusal("that is not shortened", "2001:db8:0:0:0:0:0:1").
		pebbleSays(201, "", otherForm),
}

// nameRefusal is about a DNS name that cannot be ordered.
func nameRefusal(what, section, problem, name string) testCase {
	return refusal("a name "+what+" is "+problem, section, 400, problem,
		func(c *Client) Answer { return c.orderIdentifier("dns", name) })
}

// addressRefusal is about an IP address that cannot be ordered.
func addressRefusal(what, address string) testCase {
	return refusal("an IP address "+what+" is malformed", "RFC 8738, section 3", 400, "malformed",
		func(c *Client) Answer { return c.orderIdentifier("ip", address) })
}

func (c *Client) orderIdentifier(typ, value string) Answer {
	c.t.Helper()
	object := map[string]any{"identifiers": []any{map[string]string{"type": typ, "value": value}}}
	return c.post(c.url("newOrder"), string(MustJSON(c.t, object)))
}

func challengeTypes(authorization Answer) []string {
	var types []string
	for _, challenge := range authorization.objects("challenges") {
		types = append(types, text(challenge, "type"))
	}
	return types
}
