package certmgr

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestServerNames(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	long253 := strings.Repeat(label63+".", 3) + strings.Repeat("b", 57) + ".com"
	tests := []struct {
		name, in string
		want     string // the normal form; empty if it is refused
		differs  string // why autocert does something else
	}{
		{"plain", "example.com", "example.com", ""},
		{"digits", "1.example.com", "1.example.com", ""},
		{"inner hyphen", "a-b.example.com", "a-b.example.com", ""},
		{"upper case", "Example.COM", "example.com", ""},
		{"trailing dot", "example.com.", "example.com", ""},
		{"upper case and trailing dot", "EXAMPLE.com.", "example.com", ""},
		{"IDN in Unicode", "bücher.example", "xn--bcher-kva.example", ""},
		{"IDN in Unicode, upper case", "BÜCHER.example", "xn--bcher-kva.example", ""},
		{"IDN, decomposed", "bu\u0308cher.example", "xn--bcher-kva.example", ""},
		{"IDN as A-label", "xn--bcher-kva.example", "xn--bcher-kva.example", ""},
		{"IDN as A-label, upper case", "XN--BCHER-KVA.example", "xn--bcher-kva.example", ""},
		{"Greek final sigma stays", "σας.example", "xn--mxa8ab.example", ""},
		{"Greek capitals have no final sigma", "ΣΑΣ.example", "xn--mxa9ab.example", ""},
		{"sharp s stays", "straße.example", "xn--strae-oqa.example", ""},
		{"Cyrillic", "пример.example", "xn--e1afmkfd.example", ""},
		{"right to left", "דוגמה.example", "xn--6dbbec0c.example", ""},
		{"ideographic full stop", "例え。example", "xn--r8jz45g.example", "it looks for a dot before the mapping makes one"},
		{"fullwidth letters", "ｅｘａｍｐｌｅ.com", "example.com", ""},
		{"soft hyphen vanishes", "exam\u00adple.com", "example.com", ""},
		{"63 bytes in a label", label63 + ".com", label63 + ".com", ""},
		{"253 bytes", long253, long253, ""},
		{"numbers but for the last label", "1.2.3.com", "1.2.3.com", ""},
		{"last label begins with a digit", "example.1st", "example.1st", ""},

		{"empty", "", "", ""},
		{"dot", ".", "", ""},
		{"single label", "localhost", "", ""},
		{"single label and dot", "localhost.", "", ""},
		{"leading dot", ".example.com", "", "it is no host name"},
		{"empty label", "a..example.com", "", "it is no host name"},
		{"underscore", "_acme-challenge.example.com", "", ""},
		{"wildcard", "*.example.com", "", ""},
		{"leading hyphen", "-a.example.com", "", ""},
		{"trailing hyphen", "a-.example.com", "", ""},
		{"hyphens in third and fourth place", "ab--cd.example.com", "", ""},
		{"broken A-label", "xn--a.example.com", "", ""},
		{"A-label of nothing", "xn--.example.com", "", "it is no host name"},
		{"space", "exa mple.com", "", ""},
		{"port", "example.com:443", "", ""},
		{"path", "../example.com", "", ""},
		{"control byte", "exam\x00ple.com", "", ""},
		{"line break", "example.com\nexample.org", "", ""},
		{"DEL", "example.com\x7f", "", ""},
		{"not UTF-8", "exam\xffple.com", "", "U+FFFD is no letter of any name"},
		{"mixed directions", "דaוגמה.example", "", ""},
		{"maps to mixed directions", "aℵb.example", "", "what it maps to is no A-label that IDNA accepts"},
		{"IPv6 address", "2001:db8::1", "", ""},
		{"IPv6 address in brackets", "[2001:db8::1]", "", ""},
		{"64 bytes in a label", label63 + "a.com", "", "it is no host name"},
		{"254 bytes", "b" + long253, "", "it is no host name"},

		{"two trailing dots", "example.com..", "example.com", "it asks for example.com. with a dot"},
		{"IPv4 address", "192.0.2.1", "", "no CA certifies it by a DNS name"},
		{"IPv4 address and dot", "192.0.2.1.", "", "no CA certifies it by a DNS name"},
		{"IPv4 address in fullwidth digits", "１９２.0.2.1", "", "no CA certifies it by a DNS name"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := normalizeHost(test.in)
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("normalizeHost(%q) = %q, %v, want %q", test.in, got, err, test.want)
			}
			if err != nil {
				want := ErrBadServerName
				if test.in == "" {
					want = ErrNoServerName
				}
				if !errors.Is(err, want) || strings.ContainsAny(err.Error(), "\x00\n\x7f") {
					t.Errorf("error %q, want one line that wraps %q", err, want)
				}
			}
			theirs := strings.TrimSuffix(autocertAsks(test.in), ".") // as it does after that
			if (theirs == test.want) != (test.differs == "") {
				t.Errorf("autocert makes %q of %q, certmgr %q; the table's reason to differ: %q", theirs, test.in, test.want, test.differs)
			}
		})
	}
}

// A ClientHello may carry a name of 64 KB. What is too long is refused by its length,
// as mapping it would cost seconds.
func TestLongNamesAreNotMapped(t *testing.T) {
	var distinct strings.Builder
	for r := rune(0x4e00); r < 0x9fa5; r++ {
		distinct.WriteRune(r)
	}
	cjk := distinct.String()[:59_001]
	for name, in := range map[string]string{
		"one label":                    cjk + ".com",
		"label just too long":          cjk[:maxLabelLength+3] + ".com",
		"dots that are no ASCII":       "a。" + cjk[:maxLabelLength+3] + "。com",
		"labels that fit, but many":    strings.Repeat(cjk[:30]+".", 2000) + "com",
		"upper case":                   strings.Repeat("A.", 30_000) + "com",
		"A-labels":                     strings.Repeat("xn--bcher-kva.", 4000) + "com",
		"an A-label":                   "xn--" + strings.Repeat("a", 30_000) + "-" + strings.Repeat("b", 29_000) + ".com",
		"combining marks":              "a" + strings.Repeat("\u0300\u0316", 14_000) + ".com",
		"letters that map to nothing":  strings.Repeat("\u00ad", 20_000) + "example.com",
		"dots alone, no ASCII":         strings.Repeat("。", 20_000),
		"just too many, that all fit ": strings.Repeat("é.", maxNameLength/3) + "com.",
	} {
		_, err := normalizeHost(in)
		if !errors.Is(err, ErrBadServerName) || !strings.Contains(err.Error(), "too long") {
			t.Errorf("%s: %v, want ErrBadServerName that says too long", name, err)
		}
		if n := testing.AllocsPerRun(10, func() { normalizeHost(in) }); n > 10 {
			t.Errorf("%s: %v allocations, as if it were mapped", name, n)
		}
	}
}

// The bounds refuse no name that could be one.
func TestLongestNamesAreMapped(t *testing.T) {
	for name, in := range map[string]string{
		"letters of three bytes":             strings.Repeat("一", 55) + ".com",
		"letters of four bytes":              strings.Repeat("𠀀", 54) + ".com",
		"letters of four bytes, many labels": strings.Repeat("𠀀𠀀𠀀𠀀𠀀.", 15) + "com",
		"decomposed":                         strings.Repeat("\u1100\u1161\u11a8", 20) + ".com", // Hangul of three letters each
	} {
		if _, err := normalizeHost(in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// autocertAsks returns what autocert asks its policy about for a server name,
// or nothing if it refuses the name.
func autocertAsks(name string) (asked string) {
	m := autocert.Manager{HostPolicy: func(_ context.Context, host string) error {
		asked = host
		return errors.New("enough")
	}}
	m.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	return asked
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
	onlyECDSA = wanted{first: keyECDSA}
	onlyRSA   = wanted{first: keyRSA}
	bothTypes = wanted{first: keyECDSA, other: true}
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
	for _, cached := range []keyType{keyECDSA, keyRSA} {
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
						if got, _ := keyTypeOf(cert.Leaf); got != want {
							t.Errorf("served a certificate with a key of type %v, want %v", got, want)
						}
						w.wantOrders("a.example.com", orders)
					}
				})
			})
		}
	}
}
