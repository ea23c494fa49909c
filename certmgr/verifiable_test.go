package certmgr

import (
	"crypto/tls"
	"testing"

	"github.com/nostall/nostall/internal/bundle"
)

// What real clients say in their hellos, without GREASE.
var (
	goSchemes = []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256, tls.Ed25519, tls.PSSWithSHA384, tls.PSSWithSHA512,
		tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512}
	chromeSchemes = []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256, tls.PKCS1WithSHA256, tls.ECDSAWithP384AndSHA384,
		tls.PSSWithSHA384, tls.PKCS1WithSHA384, tls.PSSWithSHA512, tls.PKCS1WithSHA512}
	openSSL102Schemes = []tls.SignatureScheme{tls.PKCS1WithSHA512, tls.ECDSAWithP521AndSHA512, tls.PKCS1WithSHA384, tls.ECDSAWithP384AndSHA384,
		tls.PKCS1WithSHA256, tls.ECDSAWithP256AndSHA256, tls.PKCS1WithSHA1, tls.ECDSAWithSHA1}
	suites13 = []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}
	suites12 = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA}
	allSuite = append(append([]uint16(nil), suites13...), suites12...)
	versions = []uint16{tls.VersionTLS13, tls.VersionTLS12}
)

// realHellos are hellos and the keys that their clients can verify.
var realHellos = []struct {
	name  string
	hello tls.ClientHelloInfo
	can   keyClasses
}{
	{"hand-made, as for a warm-up", tls.ClientHelloInfo{ServerName: "a.example.com"}, allKeys},
	{"Go", tls.ClientHelloInfo{SupportedVersions: versions, CipherSuites: allSuite, SignatureSchemes: goSchemes,
		SupportedCurves: []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}}, allKeys},
	{"Go, TLS 1.2", tls.ClientHelloInfo{SupportedVersions: versions[1:], CipherSuites: suites12, SignatureSchemes: goSchemes,
		SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}}, allKeys},
	{"Chrome", tls.ClientHelloInfo{SupportedVersions: versions, CipherSuites: allSuite, SignatureSchemes: chromeSchemes,
		SupportedCurves: []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}}, p256Keys | p384Keys | rsaKeys},
	{"curl with OpenSSL 3, TLS 1.3 only", tls.ClientHelloInfo{SupportedVersions: versions[:1], CipherSuites: suites13,
		SignatureSchemes: append(goSchemes[:len(goSchemes):len(goSchemes)], tls.SignatureScheme(0x0905)), // ML-DSA-65 too
		SupportedCurves:  []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}}, allKeys},
	{"curl with OpenSSL 1.0.2", tls.ClientHelloInfo{SupportedVersions: versions[1:], CipherSuites: suites12, SignatureSchemes: openSSL102Schemes,
		SupportedCurves: []tls.CurveID{tls.CurveP256, tls.CurveP521, tls.CurveP384}}, allKeys},
	{"OpenSSL 1.0.1 with P-256 alone", tls.ClientHelloInfo{SupportedVersions: versions[1:], CipherSuites: suites12, SignatureSchemes: openSSL102Schemes,
		SupportedCurves: []tls.CurveID{tls.CurveP256}}, p256Keys | rsaKeys},
	{"no extensions", tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS10}, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}, rsaKeys},
	{"an appliance with P-256 alone, TLS 1.3", tls.ClientHelloInfo{SupportedVersions: versions[:1], CipherSuites: suites13[:1],
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256}}, p256Keys},
	{"government, TLS 1.3 with P-384 alone", tls.ClientHelloInfo{SupportedVersions: versions[:1], CipherSuites: suites13[1:2],
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}, SupportedCurves: []tls.CurveID{tls.CurveP384}}, p384Keys},
	{"TLS 1.3, X25519 for the key exchange alone", tls.ClientHelloInfo{SupportedVersions: versions[:1], CipherSuites: suites13,
		SignatureSchemes: chromeSchemes, SupportedCurves: []tls.CurveID{tls.X25519}}, p256Keys | p384Keys | rsaKeys},
	{"TLS 1.2, X25519 alone", tls.ClientHelloInfo{SupportedVersions: versions[1:], CipherSuites: suites12,
		SignatureSchemes: chromeSchemes, SupportedCurves: []tls.CurveID{tls.X25519}}, rsaKeys},
	{"TLS 1.3, PKCS #1 for certificates alone", tls.ClientHelloInfo{SupportedVersions: versions[:1], CipherSuites: suites13,
		SignatureSchemes: []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.ECDSAWithP256AndSHA256}}, p256Keys},
	{"TLS 1.2, PKCS #1", tls.ClientHelloInfo{SupportedVersions: versions[1:], CipherSuites: suites12,
		SignatureSchemes: []tls.SignatureScheme{tls.PKCS1WithSHA256}}, rsaKeys},
	{"TLS 1.2 with SHA-1 alone", tls.ClientHelloInfo{SupportedVersions: versions[1:], CipherSuites: suites12,
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithSHA1}, SupportedCurves: []tls.CurveID{tls.CurveP256, tls.CurveP384}}, p256Keys | p384Keys},
	{"TLS 1.2, suites of RSA alone", tls.ClientHelloInfo{SupportedVersions: versions[1:], CipherSuites: suites12[1:], SignatureSchemes: goSchemes}, rsaKeys},
	{"TLS 1.3, and for 1.2 suites of RSA alone", tls.ClientHelloInfo{SupportedVersions: versions, CipherSuites: []uint16{suites13[0], suites12[1]}, SignatureSchemes: goSchemes}, rsaKeys},
	{"Ed25519 alone", tls.ClientHelloInfo{SupportedVersions: versions[:1], SignatureSchemes: []tls.SignatureScheme{tls.Ed25519}}, rsaKeys},
	{"ML-DSA-65 alone", tls.ClientHelloInfo{SupportedVersions: versions[:1], SignatureSchemes: []tls.SignatureScheme{0x0905}}, rsaKeys},
}

func TestHelloSaysWhichKeysTheClientCanVerify(t *testing.T) {
	for _, test := range realHellos {
		if can := verifiable(&test.hello); can != test.can {
			t.Errorf("%s: %04b, want %04b", test.name, can, test.can)
		}
	}
}

// The type that is preferred for the host goes to all who can verify it, and the
// default of the other algorithm to those who cannot. Nobody is to have one
// issued that it cannot verify, unless it can verify none.
func TestKeyTypeToIssueIsThatPreferredOrOfTheOtherAlgorithm(t *testing.T) {
	const none = bundle.KeyTypes
	for _, test := range []struct {
		can  keyClasses
		want [bundle.KeyTypes]bundle.KeyType // by the preferred one
	}{
		{allKeys, [...]bundle.KeyType{bundle.P256, bundle.P384, bundle.RSA2048, bundle.RSA3072, bundle.RSA4096}},
		{p256Keys | rsaKeys, [...]bundle.KeyType{bundle.P256, bundle.RSA2048, bundle.RSA2048, bundle.RSA3072, bundle.RSA4096}},
		{p384Keys | rsaKeys, [...]bundle.KeyType{bundle.RSA2048, bundle.P384, bundle.RSA2048, bundle.RSA3072, bundle.RSA4096}},
		{rsaKeys, [...]bundle.KeyType{bundle.RSA2048, bundle.RSA2048, bundle.RSA2048, bundle.RSA3072, bundle.RSA4096}},
		{p256Keys, [...]bundle.KeyType{bundle.P256, none, bundle.P256, bundle.P256, bundle.P256}},
		{p384Keys, [...]bundle.KeyType{none, bundle.P384, none, none, none}},
	} {
		for kt, want := range test.want {
			e := &env{settings: &settings{keyType: bundle.KeyType(kt)}}
			p := e.wantOf("a.example.com", test.can, nil)
			got := e.keyType(e.subject("a.example.com", p.first))
			if want == none {
				if p.first != bundle.RSA {
					t.Errorf("a client of %04b, %v preferred, has %v issued, want RSA as a last resort", test.can, bundle.KeyType(kt), got)
				}
			} else if got != want {
				t.Errorf("a client of %04b, %v preferred, has %v issued, want %v", test.can, bundle.KeyType(kt), got, want)
			}
			if p.can&classOfType(got) == 0 {
				t.Errorf("a client of %04b, %v preferred, would not be served the %v that it has issued", test.can, bundle.KeyType(kt), got)
			}
		}
	}
}
