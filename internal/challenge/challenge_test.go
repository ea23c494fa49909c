package challenge

import (
	"regexp"
	"strings"
	"testing"
)

func TestKeysAreAutocerts(t *testing.T) {
	if key := TLSALPN01Key("a.example.com"); key != "a.example.com+token" {
		t.Errorf("tls-alpn-01: %q", key)
	}
	if key := HTTP01Key("LoqXcYV8"); key != "LoqXcYV8+http-01" {
		t.Errorf("http-01: %q", key)
	}
}

// The key of the longest token is a valid file name on every common file
// system.
func TestLongestTokenIsAFileName(t *testing.T) {
	token := strings.Repeat("a", MaxToken)
	if n := len(HTTP01Key(token)); n > 255 || !IsToken(token) || IsToken(token+"a") {
		t.Errorf("a key of %d bytes", n)
	}
}

var base64URL = regexp.MustCompile(`\A[A-Za-z0-9_-]+\z`)

// FuzzIsToken: a token is base64url and nothing else.
func FuzzIsToken(f *testing.F) {
	for _, s := range []string{"", "token", "..", "../example.com", "a/b", "example.com", "acme_account+key", "%2e%2e", "a\\b", "token\x00",
		"token\n", "tökén", "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0", "A-Z_a-z", strings.Repeat("a", MaxToken), strings.Repeat("a", MaxToken+1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if want := len(s) <= MaxToken && base64URL.MatchString(s); IsToken(s) != want {
			t.Fatalf("IsToken(%q) = %v", s, !want)
		}
	})
}
