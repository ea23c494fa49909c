package bundle

import (
	"crypto"
	"testing"
)

// A leaf that came alone is not as good as one with its issuer, unless it needs
// none.
func TestLacksIssuer(t *testing.T) {
	p := &pki{t: t, keys: make(map[string]crypto.Signer), der: make(map[string][]byte)}
	for name, tt := range map[string]struct {
		chain, before string
		want          bool
	}{
		"alone":                  {"a.example by A", "a.example by A, A by B", true},
		"alone, after several":   {"a.example by A", "a.example by A, A by B, B by B", true},
		"with its issuer":        {"a.example by A, A by B", "a.example by A, A by B", false},
		"alone, as before":       {"a.example by A", "a.example by A", false},
		"alone, nothing before":  {"a.example by A", "", false},
		"self-signed":            {"a.example by a.example", "a.example by A, A by B", false},
		"from a root, as before": {"a.example by B", "a.example by B, B by B", false},
		"garbage":                {"garbage", "a.example by A, A by B", false},
		"garbage before":         {"a.example by A", "a.example by A, garbage", false},
	} {
		if got := LacksIssuer(p.chain(tt.chain), p.chain(tt.before)); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// A CA that writes its name in two ways is recognized by its signature.
func TestIssuerIsRecognizedByNameOrSignature(t *testing.T) {
	p := &pki{t: t, keys: make(map[string]crypto.Signer), der: make(map[string][]byte)}
	p.keys["B"] = p.key("A") // one CA with two names
	for sent, want := range map[string]bool{
		"a.example by A, A by A":         true,
		"a.example by A, B by B":         true,
		"a.example by A, X by X":         false,
		"a.example by A, X by X, A by A": true,
		"a.example by A, a.example by A": true, // as a leaf alone
	} {
		if _, err := Check([]string{"a.example"}, ECDSA, p.key("a.example"), p.chain(sent)); (err == nil) != want {
			t.Errorf("%s: error %v, want one: %v", sent, err, !want)
		}
	}
}
