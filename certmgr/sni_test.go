package certmgr_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// What package hosts refuses is told as this package does, by sentinel and by text.
func TestRefusedServerNamesSayWhy(t *testing.T) {
	for name, test := range map[string]struct {
		kind error
		text string
	}{
		"":                {certmgr.ErrNoServerName, "certmgr: missing server name: the client sent no SNI; connect by host name, or set Manager.DefaultHost"},
		".":               {certmgr.ErrBadServerName, "certmgr: invalid server name: a single label"},
		"localhost":       {certmgr.ErrBadServerName, "certmgr: invalid server name: localhost: a single label"},
		"192.0.2.1.":      {certmgr.ErrBadServerName, "certmgr: invalid server name: 192.0.2.1: an IP address"},
		"a\n\x00.b":       {certmgr.ErrBadServerName, `certmgr: invalid server name: a\n\x00.b: not a valid host name: idna: disallowed rune U+000A`},
		"xn--a.example":   {certmgr.ErrBadServerName, "certmgr: invalid server name: xn--a.example: not a valid host name: idna: invalid label \"\\u0080\""},
		"a..example.com.": {certmgr.ErrBadServerName, "certmgr: invalid server name: a..example.com: not a valid host name"},
		strings.Repeat("a", 2000): {certmgr.ErrBadServerName,
			"certmgr: invalid server name: " + strings.Repeat("a", 30) + "..." + strings.Repeat("a", 27) + "...: too long for a host name (2000 bytes)"},
	} {
		_, err := new(certmgr.Manager).GetCertificate(&tls.ClientHelloInfo{ServerName: name})
		if !errors.Is(err, test.kind) || err.Error() != test.text {
			t.Errorf("%.20q: error\n%v\nwant\n%s", name, err, test.text)
		}
	}
}

// Only a client that sends no SNI is told of SNI.
func TestMissingNamesSayWhereTheyAreMissing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for _, err := range []error{w.m.Obtain(t.Context(), ""), w.m.Renew(t.Context(), ""), w.m.Revoke(t.Context(), "", 0)} {
			if !errors.Is(err, certmgr.ErrNoServerName) || err.Error() != "certmgr: missing server name: the host is empty" {
				t.Errorf("%v", err)
			}
		}
	})
}

// TestNamesAreTheSameEverywhere: policy, allowlist, cache and order see the one
// normal form, whatever the client sends.
func TestNamesAreTheSameEverywhere(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts = certmgr.MustAllowlist("Bücher.example.")
		for _, name := range []string{"BÜCHER.example", "xn--bcher-kva.example.", "bücher.example", "XN--BCHER-KVA.EXAMPLE"} {
			cert, err := w.get(name)
			if err != nil || cert.Leaf.VerifyHostname("xn--bcher-kva.example") != nil {
				t.Errorf("GetCertificate(%q): %v", name, err)
			}
		}
		w.wantOrders("xn--bcher-kva.example", 1)
		if n := w.ca.Count(acmetest.NewOrder); n != 1 {
			t.Errorf("%d orders, want 1", n)
		}
		for _, key := range w.cache.reads() {
			if strings.ContainsFunc(key, func(r rune) bool { return r > 0x7f || r >= 'A' && r <= 'Z' }) {
				t.Errorf("the cache was asked for %q", key)
			}
		}
	})
}
