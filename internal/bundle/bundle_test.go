package bundle_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/bundle"
)

// testKeys are generated once: RSA is slow.
var testKeys = sync.OnceValue(func() (keys [bundle.Algorithms]crypto.Signer) {
	for alg := range keys {
		key, err := bundle.GenerateKey(bundle.DefaultKeyType(bundle.Algorithm(alg)))
		if err != nil {
			panic(err)
		}
		keys[alg] = key
	}
	return keys
})

// selfSigned returns a certificate for host.
func selfSigned(host string, key crypto.Signer) []byte {
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(7),
		DNSNames:     []string{host},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Unix(1<<33, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return der
}

func mustEncode(key crypto.Signer, chain ...[]byte) []byte {
	data, err := bundle.Encode(key, chain)
	if err != nil {
		panic(err)
	}
	return data
}

func TestRoundTrip(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{testKeys()[bundle.ECDSA], testKeys()[bundle.RSA], p384} {
		chain := [][]byte{selfSigned("example.com", key), selfSigned("ca.example.com", key)}
		data := mustEncode(key, chain...)
		gotKey, gotChain, err := bundle.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if !gotKey.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) || !slices.EqualFunc(gotChain, chain, bytes.Equal) {
			t.Errorf("%T: something else came back", key)
		}
		if again := mustEncode(gotKey, gotChain...); !bytes.Equal(again, data) {
			t.Errorf("%T: encoded again it is\n%s\nwant\n%s", key, again, data)
		}
	}
}

// TestErrorsOfKeysDoNotShowThem: the parsers' own errors might quote the key.
func TestErrorsOfKeysDoNotShowThem(t *testing.T) {
	der, err := x509.MarshalECPrivateKey(testKeys()[bundle.ECDSA].(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der[:len(der)-1]})
	_, _, err = bundle.Decode(data)
	if err == nil || len(err.Error()) > 100 {
		t.Errorf("error %v", err)
	}
}

// Check tells what does not fit.
func TestCheckSaysWhatDoesNotFit(t *testing.T) {
	key, other := testKeys()[bundle.ECDSA], testKeys()[bundle.RSA]
	leaf := selfSigned("example.com", key)
	for name, test := range map[string]struct {
		host  string
		alg   bundle.Algorithm
		key   crypto.Signer
		chain [][]byte
		want  string // empty: it fits
	}{
		"sound":      {"example.com", bundle.ECDSA, key, [][]byte{leaf}, ""},
		"other host": {"example.org", bundle.ECDSA, key, [][]byte{leaf}, "for another name"},
		"other key":  {"example.com", bundle.ECDSA, other, [][]byte{leaf}, "does not belong"},
		"other type": {"example.com", bundle.RSA, key, [][]byte{leaf}, "has a ECDSA key, want RSA"},
		"no chain":   {"example.com", bundle.ECDSA, key, nil, "no certificate found"},
		"no X.509":   {"example.com", bundle.ECDSA, key, [][]byte{leaf, []byte("garbage")}, "cannot be parsed"},
		"truncated":  {"example.com", bundle.ECDSA, key, [][]byte{leaf[:100]}, "cannot be parsed"},
	} {
		_, err := bundle.Check([]string{test.host}, test.alg, test.key, test.chain)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
}

// FuzzDecode: a cache entry may hold anything. Decoding it never panics, and
// what was decoded survives encoding and decoding again.
func FuzzDecode(f *testing.F) {
	for alg, key := range testKeys() {
		sound := mustEncode(key, selfSigned("example.com", key))
		f.Add(sound, alg == int(bundle.RSA))
		f.Add(sound[:len(sound)/2], alg == int(bundle.RSA))
		f.Add(mustEncode(key), alg == int(bundle.RSA))
		f.Add(append(slices.Clone(sound), sound...), alg == int(bundle.RSA))
		f.Add(bytes.ReplaceAll(sound, []byte("\n"), []byte("\r\n")), alg == int(bundle.RSA))
	}
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, rsa bool) {
		alg := bundle.ECDSA
		if rsa {
			alg = bundle.RSA
		}
		key, chain, err := bundle.Decode(data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Fatalf("the error is %q", err)
			}
			return
		}
		written, err := bundle.Encode(key, chain)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		againKey, againChain, err := bundle.Decode(written)
		if err != nil || !slices.EqualFunc(againChain, chain, bytes.Equal) {
			t.Fatalf("what was written is read as something else: %v", err)
		}
		if !againKey.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			t.Fatal("the key that was written is read as another one")
		}
		leaf, err := bundle.Check([]string{"example.com"}, alg, key, chain)
		if err != nil {
			return
		}
		if got, ok := bundle.AlgorithmOf(leaf); !ok || got != alg || leaf.VerifyHostname("example.com") != nil {
			t.Fatalf("a certificate that does not fit passes: %v with a %v key", leaf.DNSNames, leaf.PublicKeyAlgorithm)
		}
	})
}

// A key that the cache's format does not have is an error, and nothing of it is
// written.
func TestKeysOfOtherKindsAreRefused(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der := selfSigned("a.example.com", key)
	if data, err := bundle.Encode(key, [][]byte{der}); err == nil || len(data) > 0 {
		t.Errorf("encoded as %q, %v", data, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if alg, ok := bundle.AlgorithmOf(leaf); ok {
		t.Errorf("type %v", alg)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224.Curve = nil
	if data, err := bundle.Encode(p224, nil); err == nil || len(data) > 0 {
		t.Errorf("a key without a curve: encoded as %q, %v", data, err)
	}
}
