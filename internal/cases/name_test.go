package cases

import (
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// B45: equivalent spellings of a host's name.
func TestANameIsKnownInCapitalsAndWithADot(t *testing.T) {
	for _, name := range []string{"WWW.EXAMPLE.COM", "www.example.com.", "Www.Example.Com."} {
		table.Run(t, "B45/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				mustObtain(t, w, host)
				if _, err := w.get(name); err != nil || w.newOrders() != 1 {
					t.Errorf("%d orders, error %v", w.newOrders(), err)
				}
			})
		})
	}
}

// B45: what clients send instead of a name is refused with a one-line error and
// without a request to the CA.
func TestWhatIsNoNameIsRefused(t *testing.T) {
	for name, sni := range map[string]string{
		"two dots at the end":   host + "..",
		"dot before":            "." + host,
		"empty label":           "www..example.com",
		"port":                  host + ":443",
		"path":                  host + "/",
		"URL":                   "https://" + host,
		"user":                  host + "@evil.example",
		"NUL at the end":        host + "\x00",
		"NUL":                   "\x00",
		"line feed":             host + "\n",
		"escape sequence":       "\x1b[2J" + host,
		"space":                 " " + host,
		"percent":               host + "%00.evil.example",
		"no UTF-8":              "\xff\xfe.example.com",
		"directories":           "../../etc/passwd",
		"IPv4":                  "192.0.2.1",
		"IPv4 with a dot":       "192.0.2.1.",
		"IPv4, short":           "127.1",
		"IPv4, hexadecimal":     "0x7f.1",
		"IPv6":                  "2001:db8::1",
		"IPv6 in brackets":      "[2001:db8::1]",
		"localhost":             "localhost",
		"wildcard":              "*.example.com",
		"underscore":            "foo_bar.example.com",
		"hyphen first":          "-www.example.com",
		"hyphen last":           "www-.example.com",
		"hyphens 3 and 4":       "r3---sn-abc.example.com",
		"digits at the end":     "www.example.123",
		"top level":             "com",
		"public suffix":         "co.uk",
		"dot":                   ".",
		"emoji":                 "💩.example.com",
		"zero-width space":      "a\u200bb.example.com",
		"full width":            "ｗｗｗ。ｅｘａｍｐｌｅ。ｃｏｍ.evil.example",
		"A-label, bad":          "xn--a",
		"A-label, empty":        "xn--.example.com",
		"A-label, equals sign":  "xn--ls8h=.example.com",
		"label of 64":           strings.Repeat("a", 64) + ".example.com",
		"name of 254":           longName(254),
		"name of 255":           longName(255),
		"name of 300 labels":    strings.Repeat("a.", 300) + "com",
		"nothing but a newline": "\n",
	} {
		table.Run(t, "B45/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				mustObtain(t, w, host)
				before := w.ca.Count(acmetest.Any)
				_, err := w.get(sni)
				if err == nil {
					t.Fatal("served")
				}
				if text := err.Error(); strings.ContainsAny(text, "\n\x00\x1b") || len(text) > 1100 {
					t.Errorf("the error is no clean line: %q", text)
				}
				if n := w.ca.Count(acmetest.Any) - before; n > 0 {
					t.Errorf("%d requests to the CA", n)
				}
			})
		})
	}
}

// longName returns a name of n characters, with labels of 63 at the most.
func longName(n int) string {
	name := "example.com"
	for len(name) < n {
		label := min(63, n-len(name)-1)
		if n-len(name)-1-label == 1 { // there would be no room for a label
			label--
		}
		name = strings.Repeat("a", label) + "." + name
	}
	return name
}

// B45: with AllowAnyHost a stranger chooses what is ordered. Names that no CA
// can certify, such as private ones, cost no order.
func TestAllowAnyHostOrdersNothingForImpossibleNames(t *testing.T) {
	for _, name := range []string{"www.example.123", "0x7f.1", "co.uk", "www.localhost", "wpad.invalid"} {
		table.Run(t, "B45/AllowAnyHost, "+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.m.Hosts, w.m.HostPolicy = nil, certmgr.AllowAnyHost
				if _, err := w.get(name); err == nil {
					t.Error("served")
				}
				if n := w.newOrders(); n > 0 {
					t.Errorf("%d orders", n)
				}
			})
		})
	}
}
