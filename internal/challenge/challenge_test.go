package challenge_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/nostall/nostall/internal/challenge"
)

func TestKeysAreAutocerts(t *testing.T) {
	if key := challenge.TLSALPN01Key("a.example.com"); key != "a.example.com+token" {
		t.Errorf("tls-alpn-01: %q", key)
	}
	if key := challenge.HTTP01Key("LoqXcYV8"); key != "LoqXcYV8+http-01" {
		t.Errorf("http-01: %q", key)
	}
}

// The key of the longest token is a valid file name on every common file
// system.
func TestLongestTokenIsAFileName(t *testing.T) {
	token := strings.Repeat("a", challenge.MaxToken)
	if n := len(challenge.HTTP01Key(token)); n > 255 || !challenge.IsToken(token) || challenge.IsToken(token+"a") {
		t.Errorf("a key of %d bytes", n)
	}
}

var base64URL = regexp.MustCompile(`\A[A-Za-z0-9_-]+\z`)

// FuzzIsToken: a token is base64url and nothing else.
func FuzzIsToken(f *testing.F) {
	for _, s := range []string{"", "token", "..", "../example.com", "a/b", "example.com", "acme_account+key", "%2e%2e", "a\\b", "token\x00",
		"token\n", "tökén", "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0", "A-Z_a-z", strings.Repeat("a", challenge.MaxToken), strings.Repeat("a", challenge.MaxToken+1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if want := len(s) <= challenge.MaxToken && base64URL.MatchString(s); challenge.IsToken(s) != want {
			t.Fatalf("IsToken(%q) = %v", s, !want)
		}
	})
}
