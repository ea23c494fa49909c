package conformance

import (
	"crypto"
	"crypto/elliptic"
	"net/http"
)

// keyChangeCases are about changing the key of an account. Each refusal breaks
// one of the steps listed in RFC 8555, section 7.3.5.
var keyChangeCases = []testCase{
	success("the new key works, at the same URL", "RFC 8555, section 7.3.5", 200,
		func(c *Client) Answer {
			key := newKey(c.t)
			a := c.changeKey(rollover{key: key})
			c.Key = key
			c.must(c.get(c.Account), http.StatusOK)
			found := c.newAccount(`{"onlyReturnExisting":true}`)
			c.expect(found.Header.Get("Location") == c.Account, "the new key finds %v", found)
			return a
		}),
	refusal("the old key does not work any more", "RFC 8555, section 7.3.5", 400, "malformed",
		func(c *Client) Answer {
			c.must(c.changeKey(rollover{key: newKey(c.t)}), http.StatusOK)
			return c.get(c.Account)
		}),
	refusal("the old key finds no account any more", "RFC 8555, section 7.3.5", 400, "accountDoesNotExist",
		func(c *Client) Answer {
			c.must(c.changeKey(rollover{key: newKey(c.t)}), http.StatusOK)
			return c.newAccount(`{"onlyReturnExisting":true}`)
		}),
	success("the new key may be of another kind", "RFC 8555, section 7.3.5", 200,
		func(c *Client) Answer {
			key := newKeyOn(c.t, elliptic.P384())
			a := c.changeKey(rollover{key: key})
			c.Key = key
			c.must(c.get(c.Account), http.StatusOK)
			return a
		}),
	success("a key can be changed again", "RFC 8555, section 7.3.5", 200,
		func(c *Client) Answer {
			key := newKey(c.t)
			c.must(c.changeKey(rollover{key: key}), http.StatusOK)
			c.Key = key
			return c.changeKey(rollover{key: newKey(c.t)})
		}),
	success("pending orders go on with the new key", "RFC 8555, section 7.3.5", 200,
		func(c *Client) Answer {
			o, key := c.order(c.host("a")), newKey(c.t)
			a := c.changeKey(rollover{key: key})
			c.Key = key
			c.authorize(o)
			c.complete(o, newKey(c.t))
			return a
		}),
	success("a key change that was refused changes nothing", "RFC 8555, section 7.3.5", 200,
		func(c *Client) Answer {
			c.changeKey(rollover{payload: map[string]any{"account": "https://a.example.com/"}})
			return c.get(c.Account)
		}),

	refusal("a key change without a payload is malformed", "RFC 8555, section 7.3.5", 400, "malformed",
		func(c *Client) Answer { return c.get(c.url("keyChange")) }),
	refusal("a key change whose payload is no JWS is malformed", "RFC 8555, section 7.3.5", 400, "malformed",
		func(c *Client) Answer { return c.post(c.url("keyChange"), `{"newKey":{}}`) }),
	rolloverRefusal("is signed by the old key", rollover{byOldKey: true}),
	rolloverRefusal("has no jwk", rollover{header: map[string]any{"jwk": nil}}),
	rolloverRefusal("has kid and no jwk", rollover{header: map[string]any{"jwk": nil, "kid": "https://a.example.com/"}}),
	rolloverRefusal("has jwk and kid", rollover{header: map[string]any{"kid": "https://a.example.com/"}}),
	rolloverRefusal("has another url", rollover{header: map[string]any{"url": "https://a.example.com/"}}),
	rolloverRefusal("has no url", rollover{header: map[string]any{"url": nil}}),
	rolloverRefusal("has a nonce", rollover{header: map[string]any{"nonce": "AAAA"}}).
		pebbleSays(200, "", "RFC 8555, section 7.3.5: clients must omit it, but no step of the server's looks for it. Both may."),
	rolloverRefusal("has an unprotected header", rollover{jws: func(jws map[string]any) {
		jws["header"] = map[string]any{"x": "y"}
	}}),
	rolloverRefusal("has a wrong signature", rollover{jws: func(jws map[string]any) {
		jws["signature"] = B64(make([]byte, 64))
	}}),
	rolloverRefusal("is about another account", rollover{payload: map[string]any{"account": "https://a.example.com/"}}),
	rolloverRefusal("is about no account", rollover{payload: map[string]any{"account": nil}}),
	rolloverRefusal("has no old key", rollover{payload: map[string]any{"oldKey": nil}}),
	rolloverRefusal("has an old key that is none", rollover{payload: map[string]any{"oldKey": "key"}}),
	rolloverRefusal("has a payload that is no object", rollover{raw: "[]"}),
	refusal("a key change whose inner JWS names the new key as the old one is malformed", "RFC 8555, section 7.3.5",
		400, "malformed", func(c *Client) Answer {
			key := newKey(c.t)
			return c.changeKey(rollover{key: key, payload: map[string]any{"oldKey": JWK(c.t, key.Public())}})
		}),
	refusal("a key change about another account, which exists, is malformed", "RFC 8555, section 7.3.5", 400, "malformed",
		func(c *Client) Answer {
			return c.changeKey(rollover{payload: map[string]any{"account": c.stranger().Account}})
		}),
	refusal("a key change whose inner JWS has a MAC is badSignatureAlgorithm", "RFC 8555, section 6.2", 400,
		"badSignatureAlgorithm", func(c *Client) Answer {
			return c.changeKey(rollover{header: map[string]any{"alg": "HS256"}})
		}).
		pebbleBreaks(listAlgorithms, lacksAlgorithms),
	refusal("a key change to a weak key is badPublicKey", "RFC 8555, section 6.2", 400, "badPublicKey",
		func(c *Client) Answer { return c.changeKey(rollover{key: newRSAKey(c.t, 1024)}) }).
		pebbleSays(200, "", "RFC 8555, section 6.2 lets a CA reject keys, as public CAs do with weak ones: both may."),
	refusal("a key change to another account's key is 409 with that account's URL", "RFC 8555, section 7.3.5", 409,
		"malformed", func(c *Client) Answer {
			o := c.stranger()
			a := c.changeKey(rollover{key: o.Key})
			c.expect(a.Header.Get("Location") == o.Account, "Location is %q and not the account's", a.Header.Get("Location"))
			return a
		}).
		pebbleSays(200, "", "RFC 8555, section 7.3.5: it should be 409. It means to say so, but looks for the error as a "+
			"pointer, and says nothing; the key stays as it was. acmetest is right.").
		pebbleBreaks("", "Location"),
	refusal("a key change to the same key is 409", "RFC 8555, section 7.3.5", 409, "malformed",
		func(c *Client) Answer {
			a := c.changeKey(rollover{key: c.Key})
			c.expect(a.Header.Get("Location") == c.Account, "Location is %q and not the account's", a.Header.Get("Location"))
			return a
		}).
		pebbleSays(400, "malformed", "RFC 8555, section 7.3.5: an account with the new key exists, so it should be 409. "+
			"acmetest is right.").
		pebbleBreaks("", "Location"),
	refusal("a key change that is signed by the new key is malformed", "RFC 8555, section 6.2", 400, "malformed",
		func(c *Client) Answer {
			key := newKey(c.t)
			inner := c.innerJWS(rollover{key: key})
			return c.Do(Request{URL: c.url("keyChange"), Payload: inner, Key: key})
		}),
	refusal("a key change with jwk outside is malformed", "RFC 8555, section 6.2", 400, "malformed",
		func(c *Client) Answer {
			return c.Do(Request{URL: c.url("keyChange"), Payload: c.innerJWS(rollover{}), Header: c.byKey()})
		}),
	deactivatedRefusal("cannot change its key", func(c *Client) Answer { return c.changeKey(rollover{}) }),
}

// rollover is a request for another key; the zero value is valid.
type rollover struct {
	key      crypto.Signer // new; nil for any
	byOldKey bool          // the inner JWS is signed by the old key, but names the new one
	header   map[string]any
	payload  map[string]any       // changes the inner payload
	raw      string               // instead of the inner payload
	jws      func(map[string]any) // changes the inner JWS after it was signed
}

// rolloverRefusal is about a malformed key change.
func rolloverRefusal(what string, r rollover) testCase {
	return refusal("a key change whose inner JWS "+what+" is malformed", "RFC 8555, section 7.3.5",
		http.StatusBadRequest, "malformed", func(c *Client) Answer { return c.changeKey(r) })
}

// changeKey asks for another key.
func (c *Client) changeKey(r rollover) Answer {
	c.t.Helper()
	return c.post(c.url("keyChange"), c.innerJWS(r))
}

// innerJWS returns the payload of a key change.
func (c *Client) innerJWS(r rollover) string {
	c.t.Helper()
	if r.key == nil {
		r.key = newKey(c.t)
	}
	signer := r.key
	if r.byOldKey {
		signer = c.Key
	}
	header := map[string]any{"alg": algorithm(signer), "jwk": JWK(c.t, r.key.Public()), "url": c.url("keyChange")}
	apply(header, r.header)
	payload := map[string]any{"account": c.Account, "oldKey": JWK(c.t, c.Key.Public())}
	apply(payload, r.payload)
	text := string(MustJSON(c.t, payload))
	if r.raw != "" {
		text = r.raw
	}
	jws := Flattened(c.t, header, text, signer)
	if r.jws != nil {
		r.jws(jws)
	}
	return string(MustJSON(c.t, jws))
}
