package conformance

import (
	"crypto"
	"crypto/elliptic"
	"encoding/base64"
)

const (
	noAlgorithm = "RFC 8555, section 6.2: the type is for algorithms that are not supported, while none is a matter of " +
		"form, and the problem must list what is supported. acmetest is right."
	listAlgorithms = "RFC 8555, section 6.2: the problem must list what is supported, so acmetest is right."
	badPublicKey   = "RFC 8555, section 6.2 has badPublicKey for keys that are rejected, so acmetest is right."
)

// keyCases are about signatures and keys.
var keyCases = []testCase{
	refusal("a payload that was changed is malformed", "RFC 8555, section 6.2", 400, "malformed",
		changeJWS(func(jws map[string]any) { jws["payload"] = B64([]byte("{}")) })),
	refusal("a header that was changed is malformed", "RFC 8555, section 6.2", 400, "malformed",
		changeJWS(func(jws map[string]any) {
			header, _ := base64.RawURLEncoding.DecodeString(jws["protected"].(string))
			jws["protected"] = B64(append([]byte(" "), header...))
		})),
	refusal("the signature of another key is malformed", "RFC 8555, section 6.2", 400, "malformed",
		func(c *Client) Answer { return c.Do(Request{URL: c.Account, Key: newKey(c.t)}) }),
	refusal("an empty signature is malformed", "RFC 8555, section 6.2", 400, "malformed",
		changeJWS(func(jws map[string]any) { jws["signature"] = "" })),
	refusal("a signature of zeros is malformed", "RFC 8555, section 6.2", 400, "malformed",
		changeJWS(func(jws map[string]any) { jws["signature"] = B64(make([]byte, 64)) })),
	refusal("a signature that is too long is malformed", "RFC 7518, section 3.4", 400, "malformed",
		changeJWS(func(jws map[string]any) { jws["signature"] = B64(make([]byte, 70)) })),

	algRefusal("none", "none"),
	algRefusal("a MAC", "HS256"),
	algRefusal("one that no CA supports", "ES256K"),
	algRefusal("Ed25519, which is only recommended", "EdDSA"),
	algRefusal("RSASSA-PSS", "PS256"),
	algRefusal("an algorithm of another curve", "ES384"),
	algRefusal("RSA with an EC key", "RS256"),
	refusal("no alg is malformed", "RFC 8555, section 6.2", 400, "malformed", changeHeader("alg", nil)).
		pebbleSays(400, "badSignatureAlgorithm", noAlgorithm).
		pebbleBreaks("", lacksAlgorithms),
	refusal("an alg that is a number is malformed", "RFC 7515, section 4.1.1", 400, "malformed", changeHeader("alg", 1)),

	refusal("jwk and kid together are malformed", "RFC 8555, section 6.2", 400, "malformed",
		func(c *Client) Answer {
			return c.Do(Request{URL: c.Account, Header: map[string]any{"jwk": JWK(c.t, c.Key.Public())}})
		}),
	refusal("jwk and kid together are malformed for newAccount, too", "RFC 8555, section 6.2", 400, "malformed",
		func(c *Client) Answer {
			header := map[string]any{"jwk": JWK(c.t, c.Key.Public())}
			return c.Do(Request{URL: c.url("newAccount"), Payload: `{"onlyReturnExisting":true}`, Header: header})
		}),
	refusal("jwk and kid together are malformed for revokeCert, too", "RFC 8555, section 6.2", 400, "malformed",
		func(c *Client) Answer {
			cert := c.issue(c.host("a"))
			header := map[string]any{"jwk": JWK(c.t, cert.key.Public())}
			return c.Do(Request{URL: c.url("revokeCert"), Payload: c.revocation(cert), Key: cert.key, Header: header})
		}),
	refusal("neither jwk nor kid is malformed", "RFC 8555, section 6.2", 400, "malformed", changeHeader("kid", nil)),
	refusal("jwk where kid is needed is malformed", "RFC 8555, section 6.2", 400, "malformed",
		func(c *Client) Answer { return c.Do(Request{URL: c.url("newOrder"), Payload: "{}", Header: c.byKey()}) }),
	refusal("kid where jwk is needed is malformed", "RFC 8555, section 6.2", 400, "malformed",
		func(c *Client) Answer { return c.post(c.url("newAccount"), "{}") }),
	refusal("an unknown kid is accountDoesNotExist", "RFC 8555, section 6.7", 400, "accountDoesNotExist",
		func(c *Client) Answer {
			return c.Do(Request{URL: c.url("newOrder"), Payload: "{}", Header: map[string]any{"kid": missing(c.Account)}})
		}),
	refusal("a kid that is no URL is accountDoesNotExist", "RFC 8555, section 6.7", 400, "accountDoesNotExist",
		changeHeader("kid", "1")).
		pebbleSays(400, "malformed", "RFC 8555, section 6.2 demands an account's URL, section 6.7 has a type for accounts "+
			"that do not exist: both may."),
	refusal("a kid that is a number is malformed", "RFC 7515, section 4.1.4", 400, "malformed", changeHeader("kid", 1)),
	refusal("another account's kid with the own key is malformed", "RFC 8555, section 6.2", 400, "malformed",
		func(c *Client) Answer {
			return c.Do(Request{URL: c.Account, Header: map[string]any{"kid": c.stranger().Account}})
		}),

	keyRefusal("with a point off the curve", func(jwk map[string]any) { jwk["y"] = jwk["x"] }).
		pebbleSays(400, "malformed", badPublicKey),
	keyRefusal("with coordinates that are too short", func(jwk map[string]any) { jwk["x"] = "AQ" }).
		pebbleSays(400, "malformed", badPublicKey),
	keyRefusal("of an unknown kind", func(jwk map[string]any) { jwk["kty"] = "XX" }).
		pebbleSays(400, "malformed", badPublicKey),
	keyRefusal("on an unknown curve", func(jwk map[string]any) { jwk["crv"] = "secp256k1" }).
		pebbleSays(400, "malformed", badPublicKey),
	keyRefusal("that is private", func(jwk map[string]any) { jwk["d"] = jwk["x"] }).
		pebbleSays(400, "malformed", badPublicKey),
	refusal("an RSA key of 1024 bits is badPublicKey", "RFC 8555, section 6.2", 400, "badPublicKey",
		func(c *Client) Answer {
			o := c.other()
			o.Key = newRSAKey(c.t, 1024)
			return o.newAccount(`{"termsOfServiceAgreed":true}`)
		}).
		pebbleSays(201, "", "RFC 8555, section 6.2 lets a CA reject keys, as public CAs do with weak ones: both may."),

	success("an account may have a key on P-384", "RFC 7518, section 3.4", 200,
		func(c *Client) Answer { return c.withAccountKey(newKeyOn(c.t, elliptic.P384())) }),
	success("an account may have a key on P-521", "RFC 7518, section 3.4", 200,
		func(c *Client) Answer { return c.withAccountKey(newKeyOn(c.t, elliptic.P521())) }),
	success("an account may have an RSA key", "RFC 7518, section 3.3", 200,
		func(c *Client) Answer { return c.withAccountKey(newRSAKey(c.t, 2048)) }),
}

// algRefusal is about a signature algorithm that no CA supports or that does
// not fit the key.
func algRefusal(what, alg string) testCase {
	return refusal("the algorithm "+alg+" ("+what+") is badSignatureAlgorithm", "RFC 8555, section 6.2",
		400, "badSignatureAlgorithm", changeHeader("alg", alg)).
		pebbleBreaks(listAlgorithms, lacksAlgorithms)
}

// keyRefusal is about a new account's key.
func keyRefusal(what string, change func(jwk map[string]any)) testCase {
	return refusal("a jwk "+what+" is badPublicKey", "RFC 8555, section 6.2", 400, "badPublicKey",
		func(c *Client) Answer {
			jwk := JWK(c.t, c.Key.Public())
			change(jwk)
			return c.Do(Request{
				URL:     c.url("newAccount"),
				Payload: `{"termsOfServiceAgreed":true}`,
				Header:  map[string]any{"kid": nil, "jwk": jwk},
			})
		})
}

// withAccountKey creates an account with a key and reads it.
func (c *Client) withAccountKey(key crypto.Signer) Answer {
	c.t.Helper()
	o := c.other()
	o.Key = key
	o.register()
	return o.get(o.Account)
}

// missing returns the URL of a nonexistent resource similar to this one.
func missing(url string) string { return url + "0" }
