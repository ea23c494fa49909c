package certmgr_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/bundle"
)

// keyTypePrefs are the type of key that a client gets if there is a certificate of each, and
// whether the other one will do.
type keyTypePrefs struct {
	first bundle.Algorithm
	other bool
}

var (
	onlyECDSA = keyTypePrefs{first: bundle.ECDSA}
	onlyRSA   = keyTypePrefs{first: bundle.RSA}
	bothTypes = keyTypePrefs{first: bundle.ECDSA, other: true}
)

// keyTypeHellos are hellos and the certificates that they can work with.
var keyTypeHellos = []struct {
	name  string
	hello tls.ClientHelloInfo
	want  keyTypePrefs
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

// Of a certificate of each type a client gets the one that it can work with, and of two
// that it can ECDSA.
func TestKeyTypeFollowsTheClientHello(t *testing.T) {
	for _, test := range keyTypeHellos {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.keep("a.example.com", entryFor("a.example.com", bundle.ECDSA, undue))
				w.keep("a.example.com+rsa", entryFor("a.example.com", bundle.RSA, undue))
				hello := test.hello
				hello.ServerName = "a.example.com"
				cert, err := w.m.GetCertificate(&hello)
				if err != nil {
					t.Fatal(err)
				}
				if got, _ := bundle.AlgorithmOf(cert.Leaf); got != test.want.first {
					t.Errorf("got %v, want %v", got, test.want.first)
				}
			})
		})
	}
}

// TestCachedCertificateOfTheOtherType: what is valid and what the client can
// work with is served before anything is issued, and nothing else is.
func TestCachedCertificateOfTheOtherType(t *testing.T) {
	t.Parallel()
	for _, cached := range []bundle.Algorithm{bundle.ECDSA, bundle.RSA} {
		for _, test := range keyTypeHellos {
			t.Run(cached.String()+" in the cache/"+test.name, func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					key := map[bundle.Algorithm]string{bundle.ECDSA: "a.example.com", bundle.RSA: "a.example.com+rsa"}[cached]
					w.keep(key, entryFor("a.example.com", cached, undue))
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
						if got, _ := bundle.AlgorithmOf(cert.Leaf); got != want {
							t.Errorf("served a certificate with a key of type %v, want %v", got, want)
						}
						if want == test.want.first { // else that is issued in the background
							w.wantOrders("a.example.com", orders)
						}
					}
				})
			})
		}
	}
}

// The first client after a restart may need RSA; clients that prefer ECDSA
// still get it if the cache has it, without an order.
func TestPreferredKeyTypeIsLoadedAfterTheOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		rsa := &tls.ClientHelloInfo{ServerName: "a.example.com", SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256}}
		w.mustGet("a.example.com")
		if _, err := w.m.GetCertificate(rsa); err != nil {
			t.Fatal(err)
		}
		w.restart()
		n := w.ca.Count(acmetest.Any)
		if cert, err := w.m.GetCertificate(rsa); err != nil || cert.Leaf.PublicKeyAlgorithm != x509.RSA {
			t.Fatalf("the client of RSA alone got %v", err)
		}
		synctest.Wait() // what follows an issuance or a load in the background
		w.cache.reads()
		for range 10 {
			w.mustGet("a.example.com")
		}
		synctest.Wait()
		if cert := w.mustGet("a.example.com"); cert.Leaf.PublicKeyAlgorithm != x509.ECDSA {
			t.Error("the ECDSA certificate in the cache was not loaded")
		}
		if reads := w.cache.otherReads(); len(reads) != 1 {
			t.Errorf("%d reads, want 1: %q", len(reads), reads)
		}
		if got := w.ca.Count(acmetest.Any) - n; got != 0 {
			t.Errorf("%d CA requests", got)
		}
	})
}

// A client whose suites for TLS 1.2 are RSA alone gets RSA, as with autocert: its
// suites for TLS 1.3 do not tell, and the server may not offer that version.
func TestRSASuitesGetRSABesideTLS13(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hello := &tls.ClientHelloInfo{ServerName: "a.example.com", SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12},
			CipherSuites:     []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
			SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP256}}
		c, err := w.m.GetCertificate(hello)
		if err != nil {
			t.Fatal(err)
		}
		if c.Leaf.PublicKeyAlgorithm != x509.RSA {
			t.Errorf("%v; a server with MaxVersion TLS 1.2 cannot use it for this client", c.Leaf.PublicKeyAlgorithm)
		}
	})
}

// A client of the other key type whose certificate expired in the cache meanwhile
// gets a new one.
func TestOtherKeyTypeIsReplacedAfterALongTime(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		rsaHello := &tls.ClientHelloInfo{ServerName: "a.example.com", SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256}}
		w.mustGet("a.example.com")
		if _, err := w.m.GetCertificate(rsaHello); err != nil {
			t.Fatal(err)
		}
		w.restart()
		w.mustGet("a.example.com") // ECDSA only is loaded
		time.Sleep(95 * day)
		w.wantOrders("a.example.com", 2+1)
		start := time.Now()
		c, err := w.m.GetCertificate(rsaHello)
		if err != nil || c.Leaf.PublicKeyAlgorithm != x509.RSA {
			t.Fatal(err)
		}
		t.Logf("RSA client waited %v, orders %d", time.Since(start), w.orders("a.example.com"))
	})
}
