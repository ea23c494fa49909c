package certmgr

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/bundle"
)

// What package hosts refuses is told as this package does, by sentinel and by text.
func TestRefusedServerNamesSayWhy(t *testing.T) {
	for name, test := range map[string]struct {
		kind error
		text string
	}{
		"": {ErrNoServerName, "certmgr: missing server name: the client sent no SNI; connect by host name, " +
			"or serve such clients from tls.Config.Certificates"},
		".":               {ErrBadServerName, "certmgr: invalid server name: a single label"},
		"localhost":       {ErrBadServerName, "certmgr: invalid server name: localhost: a single label"},
		"192.0.2.1.":      {ErrBadServerName, "certmgr: invalid server name: 192.0.2.1: an IP address"},
		"a\n\x00.b":       {ErrBadServerName, `certmgr: invalid server name: a\n\x00.b: not a valid host name: idna: disallowed rune U+000A`},
		"xn--a.example":   {ErrBadServerName, "certmgr: invalid server name: xn--a.example: not a valid host name: idna: invalid label \"\\u0080\""},
		"a..example.com.": {ErrBadServerName, "certmgr: invalid server name: a..example.com: not a valid host name"},
		strings.Repeat("a", 2000): {ErrBadServerName,
			"certmgr: invalid server name: " + strings.Repeat("a", 250) + "...: too long for a host name (2000 bytes)"},
	} {
		_, err := new(Manager).GetCertificate(&tls.ClientHelloInfo{ServerName: name})
		if !errors.Is(err, test.kind) || err.Error() != test.text {
			t.Errorf("%.20q: error\n%v\nwant\n%s", name, err, test.text)
		}
	}
}

// TestNamesAreTheSameEverywhere: policy, allowlist, cache and order see the one
// normal form, whatever the client sends.
func TestNamesAreTheSameEverywhere(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts = MustAllowlist("Bücher.example.")
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

var (
	onlyECDSA = wanted{first: bundle.ECDSA}
	onlyRSA   = wanted{first: bundle.RSA}
	bothTypes = wanted{first: bundle.ECDSA, other: true}
)

// keyTypeHellos are hellos and the certificates that they can work with.
var keyTypeHellos = []struct {
	name  string
	hello tls.ClientHelloInfo
	want  wanted
}{
	{"bare", tls.ClientHelloInfo{}, bothTypes},
	{"TLS 1.3 alone", tls.ClientHelloInfo{
		SupportedVersions: []uint16{tls.VersionTLS13},
		CipherSuites:      []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_CHACHA20_POLY1305_SHA256},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256},
		SupportedCurves:   []tls.CurveID{tls.X25519},
	}, bothTypes},
	{"TLS 1.3 by its suites", tls.ClientHelloInfo{CipherSuites: []uint16{tls.TLS_AES_256_GCM_SHA384}}, bothTypes},
	{"TLS 1.3, RSA schemes", tls.ClientHelloInfo{
		SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256, tls.PSSWithSHA384},
	}, onlyRSA},
	{"TLS 1.3, ECDSA schemes", tls.ClientHelloInfo{
		SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	}, onlyECDSA},
	{"TLS 1.3, ECDSA on another curve", tls.ClientHelloInfo{
		SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384, tls.PSSWithSHA256},
	}, onlyRSA},
	{"TLS 1.3 and 1.2", tls.ClientHelloInfo{
		SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12},
		CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256, tls.PKCS1WithSHA256},
		SupportedCurves:  []tls.CurveID{tls.X25519, tls.CurveP256},
	}, bothTypes},
	{"TLS 1.2, both", tls.ClientHelloInfo{
		SupportedVersions: []uint16{tls.VersionTLS12},
		CipherSuites:      []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PKCS1WithSHA256},
		SupportedCurves:   []tls.CurveID{tls.CurveP256},
	}, bothTypes},
	{"TLS 1.2, ECDSA suites", tls.ClientHelloInfo{
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
	}, onlyECDSA},
	{"TLS 1.2, RSA suites", tls.ClientHelloInfo{
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA},
	}, onlyRSA},
	{"TLS 1.2, both suites but RSA schemes", tls.ClientHelloInfo{
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.PKCS1WithSHA256},
	}, onlyRSA},
	{"TLS 1.2, both suites but ECDSA schemes", tls.ClientHelloInfo{
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	}, onlyECDSA},
	{"TLS 1.2 without P-256", tls.ClientHelloInfo{
		CipherSuites:    []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP384},
	}, onlyRSA},
	{"TLS 1.3 with X25519 for the key exchange alone", tls.ClientHelloInfo{
		SupportedVersions: []uint16{tls.VersionTLS13}, SupportedCurves: []tls.CurveID{tls.X25519},
	}, bothTypes},
	{"TLS 1.0", tls.ClientHelloInfo{
		SupportedVersions: []uint16{tls.VersionTLS10}, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA},
	}, onlyRSA},
	{"nothing that can be verified", tls.ClientHelloInfo{SignatureSchemes: []tls.SignatureScheme{tls.Ed25519}}, onlyRSA},
}

func TestKeyTypes(t *testing.T) {
	for _, test := range keyTypeHellos {
		t.Run(test.name, func(t *testing.T) {
			if got := keyTypesFor(&test.hello); got != test.want {
				t.Errorf("got %v, want %v", got.types(), test.want.types())
			}
		})
	}
}

// TestCachedCertificateOfTheOtherType: what is valid and what the client can
// work with is served before anything is issued, and nothing else is.
func TestCachedCertificateOfTheOtherType(t *testing.T) {
	for _, cached := range []bundle.KeyType{bundle.ECDSA, bundle.RSA} {
		for _, test := range keyTypeHellos {
			t.Run(cached.String()+" in the cache/"+test.name, func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					sub := hostSubject("a.example.com", cached, w.ca.URL)
					w.keep(sub.cacheKey(), entryFor(sub, undue))
					fits := test.want.first == cached || test.want.other
					want, orders := test.want.first, 1
					if fits {
						want, orders = cached, 0
					}
					for range 2 { // from the cache or the CA, then from memory
						hello := test.hello
						hello.ServerName = "a.example.com"
						cert, err := w.m.GetCertificate(&hello)
						if err != nil {
							t.Fatal(err)
						}
						if got, _ := bundle.TypeOf(cert.Leaf); got != want {
							t.Errorf("served a certificate with a key of type %v, want %v", got, want)
						}
						w.wantOrders("a.example.com", orders)
					}
				})
			})
		}
	}
}
