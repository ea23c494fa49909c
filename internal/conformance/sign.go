package conformance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // crypto.SHA256
	_ "crypto/sha512" // crypto.SHA384 and crypto.SHA512
	"encoding/base64"
	"encoding/json"
	"testing"
)

// Sign returns the JWS of a request.
func (c *Client) Sign(r Request) []byte {
	c.t.Helper()
	key := r.Key
	if key == nil {
		key = c.Key
	}
	header := map[string]any{"alg": algorithm(key), "url": r.URL}
	if r.Alg != "" {
		header["alg"] = r.Alg
	}
	if c.Account != "" {
		header["kid"] = c.Account
	} else {
		header["jwk"] = JWK(c.t, key.Public())
	}
	if _, set := r.Header["nonce"]; !set {
		header["nonce"] = c.takeNonce()
	}
	apply(header, r.Header)
	jws := Flattened(c.t, header, r.Payload, key)
	if r.JWS != nil {
		r.JWS(jws)
	}
	return MustJSON(c.t, jws)
}

// apply sets members of a header; a nil value removes one.
func apply(header, changes map[string]any) {
	for name, value := range changes {
		if header[name] = value; value == nil {
			delete(header, name)
		}
	}
}

// Flattened signs a payload and returns a flattened JWS (RFC 7515, section
// 7.2.2).
func Flattened(t *testing.T, header map[string]any, payload string, key crypto.Signer) map[string]any {
	t.Helper()
	protected, payload := B64(MustJSON(t, header)), B64([]byte(payload))
	return map[string]any{
		"protected": protected,
		"payload":   payload,
		"signature": B64(signature(t, protected+"."+payload, key)),
	}
}

// signature signs text with the algorithm for the key (RFC 7518, section 3).
func signature(t *testing.T, text string, key crypto.Signer) []byte {
	t.Helper()
	hash := hashFor(key)
	h := hash.New()
	h.Write([]byte(text))
	if ec, ok := key.(*ecdsa.PrivateKey); ok {
		r, s, err := ecdsa.Sign(rand.Reader, ec, h.Sum(nil))
		if err != nil {
			t.Fatal(err)
		}
		size := (ec.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
	sig, err := key.Sign(rand.Reader, h.Sum(nil), hash)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// maced authenticates a payload with a MAC and returns a flattened JWS (RFC
// 8555, section 7.3.4).
func maced(t *testing.T, header map[string]any, payload string, hash crypto.Hash, secret []byte) map[string]any {
	t.Helper()
	protected, payload := B64(MustJSON(t, header)), B64([]byte(payload))
	mac := hmac.New(hash.New, secret)
	mac.Write([]byte(protected + "." + payload))
	return map[string]any{"protected": protected, "payload": payload, "signature": B64(mac.Sum(nil))}
}

func algorithm(key crypto.Signer) string {
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return "RS256"
	}
	return map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[ec.Params().BitSize]
}

func hashFor(key crypto.Signer) crypto.Hash {
	return map[string]crypto.Hash{
		"RS256": crypto.SHA256,
		"ES256": crypto.SHA256,
		"ES384": crypto.SHA384,
		"ES512": crypto.SHA512,
	}[algorithm(key)]
}

// JWK returns a public key in the form of RFC 7517.
func JWK(t *testing.T, pub crypto.PublicKey) map[string]any {
	t.Helper()
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		half := (len(point) + 1) / 2
		return map[string]any{"kty": "EC", "crv": pub.Params().Name, "x": B64(point[1:half]), "y": B64(point[half:])}
	case *rsa.PublicKey:
		return map[string]any{"kty": "RSA", "n": B64(pub.N.Bytes()), "e": B64([]byte{1, 0, 1})}
	default:
		t.Fatalf("no JWK for %T", pub)
		return nil
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	return newKeyOn(t, elliptic.P256())
}

func newKeyOn(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRSAKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// B64 returns base64url without padding.
func B64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// MustJSON returns v as JSON.
func MustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
