package acmetest_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/conformance"
)

// rollover is a key change; unset fields get correct values.
type rollover struct {
	newKey  crypto.Signer
	signer  crypto.Signer  // of the inner JWS, instead of newKey
	header  map[string]any // members of the inner protected header; a nil value removes one
	payload map[string]any // members of the inner payload; a nil value removes one
	inner   string         // instead of an inner JWS
}

// rollOver requests a key change. The client's own key does not change.
func (c *rawClient) rollOver(r rollover) answer {
	c.t.Helper()
	if r.newKey == nil {
		r.newKey = newECKey(c.t)
	}
	if r.signer == nil {
		r.signer = r.newKey
	}
	url := c.endpoint("/key-change")
	header := map[string]any{"alg": "ES256", "jwk": conformance.JWK(c.t, r.newKey.Public()), "url": url}
	payload := map[string]any{"account": c.kid, "oldKey": conformance.JWK(c.t, c.key.Public())}
	for _, change := range []struct{ object, members map[string]any }{{header, r.header}, {payload, r.payload}} {
		for name, value := range change.members {
			if change.object[name] = value; value == nil {
				delete(change.object, name)
			}
		}
	}
	if r.inner == "" {
		jws := conformance.Flattened(c.t, header, string(conformance.MustJSON(c.t, payload)), r.signer)
		r.inner = string(conformance.MustJSON(c.t, jws))
	}
	return c.do(post{url: url, payload: r.inner})
}

func TestKeyChange(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	order, _ := c.order("a.example.com")
	oldKey, newKey := c.key, newECKey(t)

	a := c.rollOver(rollover{newKey: newKey})
	if a.status != 200 || a.str("status") != "valid" {
		t.Fatalf("key change: %d %s\n%v", a.status, a.body, s)
	}
	if a := c.get(order); a.status != 400 || a.problem() != "malformed" {
		t.Errorf("the old key still signs: %d %s", a.status, a.body)
	}
	c.key = newKey
	if a := c.get(order); a.status != 200 || a.str("status") != "pending" {
		t.Errorf("the order with the new key: %d %s", a.status, a.body)
	}
	thumbprint, err := acme.JWKThumbprint(newKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	if list := s.Accounts(); len(list) != 1 || list[0].URL != c.kid || list[0].Thumbprint != thumbprint {
		t.Errorf("accounts %+v", list)
	}
	if s.Count(acmetest.KeyChange) != 1 || s.Requests()[5].Account != c.kid {
		t.Errorf("the log:\n%v", s)
	}

	// The new key finds the account, the old one is free.
	found := &rawClient{t: t, server: s, key: newKey}
	if a := found.do(post{url: c.endpoint("/new-account"), payload: "{}"}); a.status != 200 || a.header.Get("Location") != c.kid {
		t.Errorf("newAccount with the new key: %d %v", a.status, a.header)
	}
	other := &rawClient{t: t, server: s, key: oldKey}
	if other.register(); other.kid == c.kid {
		t.Error("the old key leads to the account that left it")
	}
	// Changing back is a conflict now.
	if a := c.rollOver(rollover{newKey: oldKey}); a.status != 409 || a.header.Get("Location") != other.kid {
		t.Errorf("change to a key in use: %d %v", a.status, a.header)
	}
}

func TestKeyChangeRefuses(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	stranger := newECKey(t)
	for _, test := range []struct {
		name   string
		r      rollover
		status int
		typ    string
	}{
		{"no inner JWS", rollover{inner: `{"account":"a","oldKey":{}}`}, 400, "malformed"},
		{"inner JWS is a string", rollover{inner: `"a.b.c"`}, 400, "malformed"},
		{"no jwk", rollover{header: map[string]any{"jwk": nil}}, 400, "malformed"},
		{"kid instead of jwk", rollover{header: map[string]any{"jwk": nil, "kid": "/account/1"}}, 400, "malformed"},
		{"kid and jwk", rollover{header: map[string]any{"kid": "/account/1"}}, 400, "malformed"},
		{"jwk is none", rollover{header: map[string]any{"jwk": map[string]any{"kty": "EC"}}}, 400, "badPublicKey"},
		{"weak key", rollover{newKey: weak, header: map[string]any{"alg": "RS256"}}, 400, "badPublicKey"},
		{"nonce", rollover{header: map[string]any{"nonce": "AAAA"}}, 400, "malformed"},
		{"no url", rollover{header: map[string]any{"url": nil}}, 400, "malformed"},
		{"other url", rollover{header: map[string]any{"url": "https://ca.example/key-change"}}, 400, "malformed"},
		{"alg none", rollover{header: map[string]any{"alg": "none"}}, 400, "badSignatureAlgorithm"},
		{"alg of another key", rollover{header: map[string]any{"alg": "RS256"}}, 400, "badSignatureAlgorithm"},
		{"signed by another key", rollover{signer: stranger}, 400, "malformed"},
		{"no account", rollover{payload: map[string]any{"account": nil}}, 400, "malformed"},
		{"other account", rollover{payload: map[string]any{"account": "/account/2"}}, 400, "malformed"},
		{"no oldKey", rollover{payload: map[string]any{"oldKey": nil}}, 400, "malformed"},
		{"oldKey is none", rollover{payload: map[string]any{"oldKey": "key"}}, 400, "malformed"},
		{"oldKey of another account", rollover{payload: map[string]any{"oldKey": conformance.JWK(t, stranger.Public())}}, 400, "malformed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := acmetest.NewMemoryServer()
			defer s.Close()
			c := newRawClient(t, s)
			c.register()
			before := s.Accounts()[0]
			a := c.rollOver(test.r)
			if a.status != test.status || a.problem() != test.typ {
				t.Errorf("got %d %s, want %d %s\n%s", a.status, a.problem(), test.status, test.typ, a.body)
			}
			if a := c.get(c.kid); a.status != 200 || s.Accounts()[0].Thumbprint != before.Thumbprint {
				t.Errorf("the old key does not sign any more: %d %s", a.status, a.body)
			}
		})
	}
}

// TestKeyChangeConflict: a key of any account, even deactivated or the same
// one, cannot be used.
func TestKeyChangeConflict(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c, other, dead := newRawClient(t, s), newRawClient(t, s), newRawClient(t, s)
	for _, client := range []*rawClient{c, other, dead} {
		client.register()
	}
	dead.do(post{url: dead.kid, payload: `{"status":"deactivated"}`})
	for _, owner := range []*rawClient{c, other, dead} {
		a := c.rollOver(rollover{newKey: owner.key})
		if a.status != 409 || a.problem() != "malformed" || a.header.Get("Location") != owner.kid {
			t.Errorf("change to the key of %s: %d %v %s", owner.kid, a.status, a.header, a.body)
		}
	}
}

// TestKeyChangeDuringValidation: a validation uses the key from its start.
func TestKeyChangeDuringValidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewUnstartedServer()
		s.ValidateInReply = acmetest.Never
		s.StartMemory()
		defer s.Close()
		c := newRawClient(t, s)
		c.register()
		asked, changed := make(chan struct{}), make(chan struct{})
		answerOld := keyAuthorizer(t, c.key)
		s.Resolve("a.example.com", acmetest.Target{HTTPHandler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(asked)
			<-changed
			answerOld.ServeHTTP(w, r)
		})})
		s.Resolve("b.example.com", acmetest.Target{HTTPHandler: answerOld})
		u, o := c.order("a.example.com")
		_, later := c.order("b.example.com")
		c.do(post{url: c.get(o.authorizations()[0]).challenge("http-01"), payload: "{}"})
		<-asked
		newKey := newECKey(t)
		if a := c.rollOver(rollover{newKey: newKey}); a.status != 200 {
			t.Fatalf("key change: %d %s", a.status, a.body)
		}
		c.key = newKey
		close(changed)
		synctest.Wait()
		if got := c.get(u).str("status"); got != "ready" {
			t.Errorf("the order whose validation was under way is %s, want ready\n%v", got, s)
		}
		c.validate(later)
		if got := c.get(later.authorizations()[0]).str("status"); got != "invalid" {
			t.Errorf("a later validation with the old key is %s, want invalid\n%v", got, s)
		}
	})
}

// TestKeyChangeWhileInUse is for the race detector.
func TestKeyChangeWhileInUse(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	client := newACMEClient(t, s)
	old := &rawClient{t: t, server: s, key: client.Key, kid: string(client.KID)}
	body := old.sign(post{url: old.endpoint("/new-order"), payload: `{"identifiers":[{"type":"dns","value":"a.example.com"}]}`})
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			resp, err := s.Client().Post(old.endpoint("/new-order"), "application/jose+json", strings.NewReader(string(body)))
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			s.Accounts()
		}
	})
	for range 30 {
		if err := client.AccountKeyRollover(t.Context(), newECKey(t)); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
	if _, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com")); err != nil {
		t.Error(err)
	}
}
