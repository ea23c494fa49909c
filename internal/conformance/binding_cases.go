package conformance

import (
	"crypto"
	"maps"
	"reflect"
	"slices"
)

// bindingCases are about external account binding (RFC 8555, section 7.3.4), at
// a CA that requires it.
var bindingCases = []testCase{
	success("a binding makes an account that shows it", "RFC 8555, section 7.3.4", 201,
		func(c *Client) Answer { return c.bindAndShow(binding{}) }).onBinding(),
	success("a binding may use HS384", "RFC 8555, section 7.3.4", 201,
		func(c *Client) Answer { return c.bindAndShow(binding{hash: crypto.SHA384}) }).onBinding(),
	success("a binding may use HS512", "RFC 8555, section 7.3.4", 201,
		func(c *Client) Answer { return c.bindAndShow(binding{hash: crypto.SHA512}) }).onBinding(),
	success("one external account may have several accounts", "RFC 8555, section 7.3.4", 201,
		func(c *Client) Answer {
			c.must(c.bind(binding{}), 201)
			return c.other().bind(binding{})
		}).onBinding(),
	success("the directory says that a binding is required", "RFC 8555, section 7.3.4", 200,
		func(c *Client) Answer {
			c.expect(c.meta()["externalAccountRequired"] == true, "the directory's meta is %v", c.meta())
			return c.fetch(c.ca.Directory)
		}).onBinding(),
	success("an account that is bound is found without a binding", "RFC 8555, section 7.3.1", 200,
		func(c *Client) Answer {
			c.must(c.bind(binding{}), 201)
			return c.newAccount(`{"onlyReturnExisting":true}`)
		}).onBinding(),
	refusal("no binding is externalAccountRequired", "RFC 8555, section 7.3.4", 403, "externalAccountRequired",
		func(c *Client) Answer { return c.newAccount(`{"termsOfServiceAgreed":true}`) }).onBinding(),
	refusal("a binding that is null is externalAccountRequired", "RFC 8555, section 7.3.4", 403, "externalAccountRequired",
		func(c *Client) Answer {
			return c.newAccount(`{"termsOfServiceAgreed":true,"externalAccountBinding":null}`)
		}).onBinding(),
	refusal("a binding that was refused makes no account", "RFC 8555, section 7.3.4", 400, "accountDoesNotExist",
		func(c *Client) Answer {
			c.bind(binding{secret: []byte("wrong")})
			return c.newAccount(`{"onlyReturnExisting":true}`)
		}).onBinding(),
	refusal("a binding by a wrong key is unauthorized", "RFC 8555, section 7.3.4", 403, "unauthorized",
		func(c *Client) Answer { return c.bind(binding{secret: []byte("wrong")}) }).onBinding(),
	refusal("a binding with an unknown kid is unauthorized", "RFC 8555, section 7.3.4", 403, "unauthorized",
		func(c *Client) Answer { return c.bind(binding{header: map[string]any{"kid": "unknown"}}) }).onBinding(),
	refusal("a binding whose payload was changed is unauthorized", "RFC 8555, section 7.3.4", 403, "unauthorized",
		func(c *Client) Answer {
			return c.bind(binding{jws: func(jws map[string]any) {
				jws["payload"] = B64(MustJSON(c.t, JWK(c.t, newKey(c.t).Public())))
			}})
		}).onBinding(),
	bindingRefusal("without kid", binding{header: map[string]any{"kid": nil}}),
	bindingRefusal("with a nonce", binding{header: map[string]any{"nonce": "AAAA"}}),
	bindingRefusal("without url", binding{header: map[string]any{"url": nil}}),
	bindingRefusal("with another url", binding{header: map[string]any{"url": "https://a.example.com/"}}),
	bindingRefusal("without alg", binding{header: map[string]any{"alg": nil}}),
	bindingRefusal("whose alg is no MAC", binding{header: map[string]any{"alg": "ES256"}}),
	bindingRefusal("whose alg is none", binding{header: map[string]any{"alg": "none"}}),
	bindingRefusal("for no key", binding{payload: "{}"}),
	bindingRefusal("without a payload", binding{payload: "-"}),
	bindingRefusal("without a signature", binding{jws: func(jws map[string]any) { delete(jws, "signature") }}).
		pebbleSays(403, "unauthorized", "RFC 8555, section 7.3.4: step 1 is that it is a well-formed JWS, for which no type is "+
			"named. Both may."),
	refusal("a binding that is no JWS is malformed", "RFC 8555, section 7.3.4", 400, "malformed",
		func(c *Client) Answer {
			return c.newAccount(`{"termsOfServiceAgreed":true,"externalAccountBinding":"a.b.c"}`)
		}).onBinding(),
	refusal("a binding for another key is malformed", "RFC 8555, section 7.3.4", 400, "malformed",
		func(c *Client) Answer {
			return c.bind(binding{payload: string(MustJSON(c.t, JWK(c.t, newKey(c.t).Public())))})
		}).
		pebbleSays(400, "badPublicKey", "RFC 8555, section 7.3.4 names no type; that of section 6.2 is for keys that the CA "+
			"does not accept: both may.").onBinding(),
	success("a binding that nobody asked for is not shown", "RFC 8555, section 7.3.4", 201,
		func(c *Client) Answer {
			o := c.other()
			header := map[string]any{"alg": "HS256", "kid": "kid", "url": c.url("newAccount")}
			jws := maced(c.t, header, string(MustJSON(c.t, JWK(c.t, o.Key.Public()))), crypto.SHA256, []byte("secret"))
			a := o.newAccount(string(MustJSON(c.t, map[string]any{"termsOfServiceAgreed": true, "externalAccountBinding": jws})))
			c.expect(a.Object["externalAccountBinding"] == nil, "a binding that was not verified is shown: %v", a)
			return a
		}).
		pebbleSays(403, "unauthorized", "RFC 8555, section 7.3.4: the CA decides whether it verifies a binding. Both may."),
}

// binding is an external account binding; the zero value is valid.
type binding struct {
	hash    crypto.Hash // zero means SHA-256
	secret  []byte      // MAC key
	header  map[string]any
	payload string // "-" for none
	jws     func(map[string]any)
}

// bindingRefusal is about a malformed binding.
func bindingRefusal(what string, b binding) testCase {
	return refusal("a binding "+what+" is malformed", "RFC 8555, section 7.3.4", 400, "malformed",
		func(c *Client) Answer { return c.bind(b) }).onBinding()
}

// bindingJWS returns the JWS of a binding to the first external account.
func (c *Client) bindingJWS(b binding) map[string]any {
	c.t.Helper()
	kid := slices.Sorted(maps.Keys(c.ca.Bindings))[0]
	if b.hash == 0 {
		b.hash = crypto.SHA256
	}
	if b.secret == nil {
		b.secret = c.ca.Bindings[kid]
	}
	if b.payload == "" {
		b.payload = string(MustJSON(c.t, JWK(c.t, c.Key.Public())))
	} else if b.payload == "-" {
		b.payload = ""
	}
	alg := map[crypto.Hash]string{crypto.SHA256: "HS256", crypto.SHA384: "HS384", crypto.SHA512: "HS512"}[b.hash]
	header := map[string]any{"alg": alg, "kid": kid, "url": c.url("newAccount")}
	apply(header, b.header)
	jws := maced(c.t, header, b.payload, b.hash, b.secret)
	if b.jws != nil {
		b.jws(jws)
	}
	return jws
}

// bind asks for an account with a binding.
func (c *Client) bind(b binding) Answer {
	c.t.Helper()
	return c.bindWith(c.bindingJWS(b))
}

func (c *Client) bindWith(jws map[string]any) Answer {
	c.t.Helper()
	return c.newAccount(string(MustJSON(c.t, map[string]any{"termsOfServiceAgreed": true, "externalAccountBinding": jws})))
}

// bindAndShow asks for an account with a binding, which the account must show.
func (c *Client) bindAndShow(b binding) Answer {
	c.t.Helper()
	jws := c.bindingJWS(b)
	a := c.bindWith(jws)
	c.expect(reflect.DeepEqual(a.Object["externalAccountBinding"], any(jws)), "the account does not show its binding: %v", a)
	return a
}
