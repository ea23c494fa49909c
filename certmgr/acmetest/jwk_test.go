package acmetest

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
)

func TestParseJWK(t *testing.T) {
	member := func(jwk, name string, value any) string {
		var members map[string]any
		if err := json.Unmarshal([]byte(jwk), &members); err != nil {
			t.Fatal(err)
		}
		if members[name] = value; value == nil {
			delete(members, name)
		}
		return string(mustMarshal(members))
	}
	modulus := func(bits uint) string {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return base64url.EncodeToString(n.Add(n, big.NewInt(1)).Bytes())
	}
	for _, test := range []struct{ name, jwk, want string }{
		{"P-256", jwkP256, ""},
		{"P-521", jwkP521, ""},
		{"RSA", jwkRSA, ""},
		{"RSA, as long as it may be", member(jwkRSA, "n", modulus(4096)), ""},
		{"unknown members", member(jwkP256, "use", 1), ""},
		{"alg that goes with it", member(jwkP256, "alg", "ES256"), ""},
		{"alg of another key", member(jwkP256, "alg", "ES384"), "alg"},
		{"no alg of a signature", member(jwkRSA, "alg", "RSA-OAEP"), "alg"},
		{"no object", "[]", "object"},
		{"a name twice", strings.Replace(jwkP256, "{", `{"kty":"RSA",`, 1), "twice"},
		{"a MAC key", `{"kty":"oct","k":"AA"}`, "kty"},
		{"no kty", member(jwkP256, "kty", nil), "kty"},
		{"kty a number", member(jwkP256, "kty", 1), "string"},
		{"curve in another case", member(jwkP256, "crv", "p-256"), "crv"},
		{"curve of another key", member(jwkP256, "crv", "P-384"), "bytes"},
		{"no y", member(jwkP256, "y", nil), "bytes"},
		{"a line break", member(jwkP256, "x", "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\n"), "bytes"},
		{"padding", member(jwkP256, "x", "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU="), "bytes"},
		{"stray bits", member(jwkP256, "x", "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEV"), "bytes"},
		{"off the curve", member(jwkP256, "x", base64url.EncodeToString(bytes.Repeat([]byte{1}, 32))), "curve"},
		{"a private key", member(jwkP256, "d", "AA"), "private"},
		{"RSA, too small", member(jwkRSA, "n", modulus(2047)), "weak"},
		{"RSA, too large", member(jwkRSA, "n", modulus(4097)), "large"},
		{"RSA, huge", member(jwkRSA, "n", modulus(400_000)), "up to"},
		{"RSA, a leading zero", member(jwkRSA, "n", "AA"+modulus(2048)), "leading"},
		{"RSA, a leading zero in e", member(jwkRSA, "e", "AAEAAQ"), "leading"},
		{"RSA, e is 3", member(jwkRSA, "e", "Aw"), "exponent"},
		{"RSA, e is huge", member(jwkRSA, "e", modulus(2048)), "small"},
	} {
		key, err := parseJWK([]byte(test.jwk))
		switch {
		case test.want == "" && (err != nil || len(key.thumbprint) != 43):
			t.Errorf("%s: %v, %v", test.name, key, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: error %v, want one about %q", test.name, err, test.want)
		}
	}
	// RFC 7638, section 3.1.
	if key, err := parseJWK([]byte(jwkRSA)); err != nil || key.thumbprint != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
		t.Errorf("the key of RFC 7638: %+v, %v", key, err)
	}
}
