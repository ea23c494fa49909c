package conformance

import (
	"crypto"
	"net/http"
)

const section76 = "RFC 8555, section 7.6"

// revocationCases are about revokeCert.
var revocationCases = []testCase{
	success("the account that ordered a certificate can revoke it", section76, 200,
		func(c *Client) Answer { return c.revoke(c.issue(c.host("a"))) }),
	success("a revocation can have a reason", section76, 200,
		func(c *Client) Answer { return c.revoke(c.issue(c.host("a")), "reason", 1) }),
	success("the reason may be 0", section76, 200,
		func(c *Client) Answer { return c.revoke(c.issue(c.host("a")), "reason", 0) }),
	success("the certificate's key can revoke it", section76, 200,
		func(c *Client) Answer {
			cert := c.issue(c.host("a"))
			return c.other().revokeByKey(cert, cert.key)
		}),
	success("an RSA certificate's key can revoke it", section76, 200,
		func(c *Client) Answer {
			cert := c.complete(c.ready(c.host("a")), newRSAKey(c.t, 2048))
			return c.other().revokeByKey(cert, cert.key)
		}),
	success("the certificate's key can revoke it when its account is deactivated", section76, 200,
		func(c *Client) Answer {
			cert := c.issue(c.host("a"))
			c.must(c.post(c.Account, deactivate), http.StatusOK)
			return c.other().revokeByKey(cert, cert.key)
		}),
	success("another account with authorizations for all names can revoke", section76, 200,
		func(c *Client) Answer {
			cert, o := c.issue(c.host("a"), c.host("b")), c.stranger()
			o.ready(c.host("a"), c.host("b"))
			return o.revoke(cert)
		}).
		pebbleSays(403, "unauthorized", "RFC 8555, section 7.6: the server must consider it authorized, so acmetest is right."),
	refusal("another account without authorizations is unauthorized", section76, 403, "unauthorized",
		func(c *Client) Answer { return c.stranger().revoke(c.issue(c.host("a"))) }),
	refusal("another account with authorizations for some of the names is unauthorized", section76, 403, "unauthorized",
		func(c *Client) Answer {
			cert, o := c.issue(c.host("a"), c.host("b")), c.stranger()
			o.ready(c.host("a"))
			return o.revoke(cert)
		}),
	refusal("another account whose authorization is pending is unauthorized", section76, 403, "unauthorized",
		func(c *Client) Answer {
			cert, o := c.issue(c.host("a")), c.stranger()
			o.order(c.host("a"))
			return o.revoke(cert)
		}),
	refusal("another account whose authorization was deactivated is unauthorized", "RFC 8555, section 7.5.2", 403,
		"unauthorized", func(c *Client) Answer {
			cert, o := c.issue(c.host("a")), c.stranger()
			o.must(o.post(o.ready(c.host("a")).authorization(), deactivate), http.StatusOK)
			return o.revoke(cert)
		}),
	refusal("another key is unauthorized", section76, 403, "unauthorized",
		func(c *Client) Answer { return c.other().revokeByKey(c.issue(c.host("a")), newKey(c.t)) }),
	refusal("the account's key as jwk is unauthorized", section76, 403, "unauthorized",
		func(c *Client) Answer { return c.revokeByKey(c.issue(c.host("a")), c.Key) }),
	refusal("the key of another certificate is unauthorized", section76, 403, "unauthorized",
		func(c *Client) Answer {
			return c.revokeByKey(c.issue(c.host("a")), c.issue(c.host("a")).key)
		}),
	refusal("a deactivated account cannot revoke", "RFC 8555, section 7.3.6", 401, "unauthorized",
		func(c *Client) Answer {
			cert := c.issue(c.host("a"))
			c.must(c.post(c.Account, deactivate), http.StatusOK)
			return c.revoke(cert)
		}).
		pebbleSays(200, "", "RFC 8555, section 7.3.6: no request of the account may be accepted, so acmetest is right."),
	refusal("a certificate that was revoked is alreadyRevoked", section76, 400, "alreadyRevoked",
		func(c *Client) Answer {
			cert := c.issue(c.host("a"))
			c.must(c.revoke(cert), http.StatusOK)
			return c.revoke(cert)
		}),
	refusal("a certificate that was revoked by its account is alreadyRevoked for its key", section76, 400, "alreadyRevoked",
		func(c *Client) Answer {
			cert := c.issue(c.host("a"))
			c.must(c.revoke(cert), http.StatusOK)
			return c.revokeByKey(cert, cert.key)
		}),
	reasonRefusal("7, which is not used,", "RFC 5280, section 5.3.1", 7),
	reasonRefusal("11, which does not exist,", "RFC 5280, section 5.3.1", 11),
	reasonRefusal("2, which is for CAs,", section76, 2).
		pebbleSays(200, "", "RFC 8555, section 7.6: which reasons it allows is the CA's choice. Both may."),
	reasonRefusal("-1", "RFC 5280, section 5.3.1", -1).
		pebbleSays(400, "malformed", "RFC 8555, section 7.6: it is no reason code at all, which may be either."),
	refusal("a reason that is a string is malformed", section76, 400, "malformed",
		func(c *Client) Answer { return c.revoke(c.issue(c.host("a")), "reason", "keyCompromise") }),
	refusal("a revocation that was refused revokes nothing", section76, 400, "alreadyRevoked",
		func(c *Client) Answer {
			cert := c.issue(c.host("a"))
			c.stranger().revoke(cert)
			c.revoke(cert, "reason", 7)
			c.must(c.revoke(cert), http.StatusOK)
			return c.revoke(cert)
		}),
	refusal("a certificate of another CA is refused", section76, 404, "malformed",
		func(c *Client) Answer {
			o := c.order(c.host("a"))
			challenge := c.challenge(o.authorization(), "tls-alpn-01")
			foreign := c.validationCertificate(text(challenge, "token"), c.host("a"))
			return c.post(c.url("revokeCert"), `{"certificate":"`+B64(foreign.Certificate[0])+`"}`)
		}).
		pebbleSays(400, "malformed", "RFC 8555, section 7.6 names neither status nor type: both may."),
	revokeRefusal("a certificate that is none", http.StatusNotFound, `{"certificate":"AAAA"}`).
		pebbleSays(400, "malformed", "RFC 8555, section 7.6 names neither status nor type: both may."),
	revokeRefusal("a certificate in standard base64", 400, `{"certificate":"+/+/"}`),
	revokeRefusal("a certificate that is padded", 400, `{"certificate":"AA=="}`),
	revokeRefusal("a certificate that is a number", 400, `{"certificate":1}`),
	revokeRefusal("a list", 400, `[]`),
	revokeRefusal("nothing", 400, ``),
}

// revoke requests a revocation, signed by the account, with additional members,
// given as pairs of name and value.
func (c *Client) revoke(cert *certificate, more ...any) Answer {
	c.t.Helper()
	return c.post(c.url("revokeCert"), c.revocation(cert, more...))
}

// revokeByKey requests a revocation, signed by a key that is not an account's.
func (c *Client) revokeByKey(cert *certificate, key crypto.Signer) Answer {
	c.t.Helper()
	header := map[string]any{"kid": nil, "jwk": JWK(c.t, key.Public())}
	return c.Do(Request{URL: c.url("revokeCert"), Payload: c.revocation(cert), Key: key, Header: header})
}

func (c *Client) revocation(cert *certificate, more ...any) string {
	c.t.Helper()
	object := map[string]any{"certificate": B64(cert.leaf().Raw)}
	addMembers(object, more)
	return string(MustJSON(c.t, object))
}

// reasonRefusal is about a reason code that the CA does not accept.
func reasonRefusal(what, section string, reason int) testCase {
	return refusal("the reason "+what+" is badRevocationReason", section, 400, "badRevocationReason",
		func(c *Client) Answer { return c.revoke(c.issue(c.host("a")), "reason", reason) })
}

// revokeRefusal is about a payload without a valid certificate.
func revokeRefusal(what string, status int, payload string) testCase {
	return refusal("revoking "+what+" is malformed", section76, status, "malformed",
		func(c *Client) Answer { return c.post(c.url("revokeCert"), payload) })
}
