package acmetest_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/idna"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// A name with such a label must be "properly encoded" (RFC 8555, section
// 7.1.4).
func TestALabelsAreDecoded(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	accepted := func(label string) bool {
		return c.newOrder(nil, label+".example.com").status == 201
	}
	for label, want := range map[string]bool{
		"xn--bcher-kva":                  true,
		"xn--fiqs8s":                     true,
		"xn--egbpdaj6bu4bxfgehfvwxn":     true, // RFC 3492, section 7.1
		"XN--BCHER-KVA":                  true,
		"xn--3B-ww4c5e180e575a65lsy2b":   true,
		"xn--":                           false,
		"xn--z":                          false, // ends within a number
		"xn--abc-":                       false,
		"xn--abc-d":                      false,
		"xn--99999999":                   false, // beyond Unicode
		"xn--" + strings.Repeat("9", 59): false,
	} {
		if got := accepted(label); got != want {
			t.Errorf("%s: accepted %t, want %t", label, got, want)
		}
	}
	dice := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var text []rune
		for range 1 + dice.IntN(8) {
			text = append(text, []rune("abcxyz019-äßéжя中文字あア한글😀\U0010fffd")[dice.IntN(24)])
		}
		label, err := idna.Punycode.ToASCII(string(text))
		if err != nil || !strings.HasPrefix(label, "xn--") {
			continue
		}
		if !accepted(label) {
			t.Errorf("%s, which is %q, was refused", label, string(text))
		}
	}
}
