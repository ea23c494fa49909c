package acmeclient

import (
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

var errBroken = errors.New("broken")

// brokenKey signs with what is no signature, or cannot sign if that is nil.
type brokenKey struct {
	crypto.Signer
	signature []byte
}

func (k brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	if k.signature == nil {
		return nil, errBroken
	}
	return k.signature, nil
}

// jwsOf returns a JWS that is not signed.
func jwsOf(protected, payload string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return `{"protected":"` + encode([]byte(protected)) + `","payload":"` + encode([]byte(payload)) + `","signature":""}`
}

func post(t *testing.T, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://ca.example/", body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// A key that cannot sign a request again is an error that says so, and no
// panic: it may be the user's.
func TestKeyThatCannotSignAgain(t *testing.T) {
	_, edKey, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	good := newKey(t)
	for name, tt := range map[string]struct {
		key  crypto.Signer
		alg  string
		says string
	}{
		"another algorithm": {good, "HS256", `"HS256" is not supported`},
		"no signature":      {brokenKey{good, nil}, "ES256", "cannot sign: broken"},
		"no ASN.1":          {brokenKey{good, []byte("none")}, "ES256", "cannot be read"},
		"another kind":      {brokenKey{edKey, []byte("signature")}, "ES256", "ed25519.PublicKey are not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &signedRequest{req: post(t, nil), header: map[string]json.RawMessage{"alg": json.RawMessage(`"` + tt.alg + `"`)}}
			if err := s.signWith(tt.key, map[string]string{"nonce": "n"}); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("signWith: %v does not say %q", err, tt.says)
			}
			body := strings.NewReader(jwsOf(`{"alg":"`+tt.alg+`"}`, `{}`))
			if _, err := withReplaces(post(t, body), &replaces{certID: "id", key: tt.key}); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("withReplaces: %v does not say %q", err, tt.says)
			}
		})
	}
}

// A request that is no JWS, or whose body cannot be read, is not sent.
func TestRequestThatCannotBeReadIsNotSent(t *testing.T) {
	sent := roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("it is sent")
		return nil, errBroken
	})
	key := newKey(t)
	ca := New(Config{DirectoryURL: "https://ca.example/directory", HTTPClient: &http.Client{Transport: sent}})
	for name, body := range map[string]string{
		"no JSON":              "{",
		"header not base64":    `{"protected":"%","payload":""}`,
		"payload not base64":   `{"protected":"e30","payload":"%"}`,
		"header not JSON":      jwsOf("{", ""),
		"header without alg":   jwsOf(`{}`, ""), // a relative URL is signed anew
		"unreadable":           "",
		"payload not an order": jwsOf(`{"alg":"ES256"}`, "["),
	} {
		t.Run(name, func(t *testing.T) {
			read := func() io.Reader {
				if body == "" {
					return iotest.ErrReader(errBroken)
				}
				return strings.NewReader(body)
			}
			req := post(t, read())
			req.URL.Scheme, req.URL.Host = "", ""
			if name != "payload not an order" {
				if _, err := httpClient(ca, func() crypto.Signer { return key }).Transport.RoundTrip(req); err == nil {
					t.Error("no error")
				}
			}
			if _, err := withReplaces(post(t, read()), &replaces{certID: "id", key: key}); err == nil {
				t.Error("withReplaces: no error")
			}
		})
	}
	if _, err := outgoing(t.Context(), post(t, iotest.ErrReader(errBroken))); !errors.Is(err, errBroken) {
		t.Errorf("outgoing: %v", err)
	}
}

// A revocation may be signed by a certificate's key, which the transport does
// not have: it is not signed again for a URL that the CA has sent as a path.
func TestRevocationIsNotSignedAgain(t *testing.T) {
	key := newKey(t)
	for name, tt := range map[string]struct {
		purpose purpose
		key     crypto.Signer
	}{
		"revocation": {forRevoke, key},
		"no key":     {forOrder, nil},
	} {
		tr := &transport{ca: New(Config{}), key: func() crypto.Signer { return tt.key }}
		s := &signedRequest{req: post(t, nil), purpose: tt.purpose}
		if err := tr.sign(s, map[string]string{"url": "https://ca.example/"}); !errors.Is(err, errNotAbsolute) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
