package certmgr_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/bundle"
)

// testKeys are made once: RSA takes its time.
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

// undue is how long certificates are valid whose renewal is not due yet.
const undue = 60 * 24 * time.Hour

// selfSigned returns a certificate for host that is valid for left from now.
func selfSigned(host string, key crypto.Signer, left time.Duration) []byte {
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(7), DNSNames: []string{host},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(left).Truncate(time.Second),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return der
}

// entryFor returns a cache entry with a certificate for host that is valid for left
// from now.
func entryFor(host string, alg bundle.Algorithm, left time.Duration) []byte {
	key := testKeys()[alg]
	return mustEncode(key, selfSigned(host, key, left))
}

func mustEncode(key crypto.Signer, chain ...[]byte) []byte {
	data, err := bundle.Encode(key, chain)
	if err != nil {
		panic(err)
	}
	return data
}

// keep puts an entry into the cache.
func (w *world) keep(key string, data []byte) {
	w.t.Helper()
	if err := w.cache.Cache.Put(w.t.Context(), key, data); err != nil {
		w.t.Fatal(err)
	}
}

// TestBundleBytesAreAutocerts has autocert write, and compares every byte with
// what this package makes of the contents.
func TestBundleBytesAreAutocerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := acmetest.NewMemoryServer()
		defer ca.Close()
		store := new(cache.Memory)
		m := &autocert.Manager{Prompt: autocert.AcceptTOS, Cache: store, HostPolicy: autocert.HostWhitelist("example.com"),
			Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()}}
		ca.Resolve("*", acmetest.Target{TLSConfig: m.TLSConfig()})
		for _, suites := range [][]uint16{{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, {tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}} {
			if _, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: "example.com", CipherSuites: suites}); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"example.com", "example.com+rsa"} {
			want, err := store.Get(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			key, chain, err := bundle.Decode(want)
			if err != nil {
				t.Fatal(err)
			}
			if got := mustEncode(key, chain...); !bytes.Equal(got, want) {
				t.Errorf("%s is\n%s\nwant autocert's\n%s", name, got, want)
			}
		}
		want, err := store.Get(t.Context(), accountCacheKey)
		if err != nil {
			t.Fatal(err)
		}
		key, rest, err := bundle.DecodeKey(want)
		if err != nil || len(rest) != 0 {
			t.Fatal(err, rest)
		}
		var got bytes.Buffer
		if err := bundle.EncodeKey(&got, key); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("the account key is\n%s\nwant autocert's\n%s (%v)", &got, want, err)
		}
	})
}

// TestBundleWithPKCS8: users convert keys with openssl.
func TestBundleWithPKCS8(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for alg, key := range testKeys() {
			der, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				t.Fatal(err)
			}
			data := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
			data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: selfSigned("a.example.com", key, undue)})...)
			if bundle.Algorithm(alg) == bundle.RSA {
				w.keep("a.example.com+rsa", data)
				w.mustGetRSA()
			} else {
				w.keep("a.example.com", data)
				w.mustGet("a.example.com")
			}
		}
		w.wantOrders("a.example.com", 0)
	})
}

// TestBadEntriesAreMisses: whatever is wrong with an entry, the host gets a
// certificate, the operator an event, and the entry a sound one in its place.
func TestBadEntriesAreMisses(t *testing.T) {
	const host = "a.example.com"
	ec, rs := testKeys()[bundle.ECDSA], testKeys()[bundle.RSA]
	other, err := bundle.GenerateKey(bundle.P256)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]func() []byte{
		"empty":                 func() []byte { return nil },
		"no PEM":                func() []byte { return []byte("Internal Server Error") },
		"not UTF-8":             func() []byte { return []byte{0xff, 0xfe, 0, 0x80} },
		"expired":               func() []byte { return mustEncode(ec, selfSigned(host, ec, -time.Second)) },
		"foreign name":          func() []byte { return mustEncode(ec, selfSigned("b.example.com", ec, undue)) },
		"foreign key":           func() []byte { return mustEncode(other, selfSigned(host, ec, undue)) },
		"wrong type":            func() []byte { return mustEncode(rs, selfSigned(host, rs, undue)) },
		"key of the other type": func() []byte { return mustEncode(rs, selfSigned(host, ec, undue)) },
		"no certificate":        func() []byte { return mustEncode(ec) },
		"no key": func() []byte {
			return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: selfSigned(host, ec, undue)})
		},
		"certificate before key": func() []byte {
			cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: selfSigned(host, ec, undue)})
			return append(cert, mustEncode(ec)...)
		},
		"truncated": func() []byte {
			data := mustEncode(ec, selfSigned(host, ec, undue))
			return data[:len(data)-40]
		},
		"truncated in the key": func() []byte { return mustEncode(ec, selfSigned(host, ec, undue))[:90] },
		"something behind":     func() []byte { return append(mustEncode(ec, selfSigned(host, ec, undue)), "trailer"...) },
		"flipped bits in the leaf": func() []byte {
			der := selfSigned(host, ec, undue)
			der[8] ^= 0xff
			return mustEncode(ec, der)
		},
		"garbage behind the leaf": func() []byte { return mustEncode(ec, selfSigned(host, ec, undue), []byte("garbage")) },
		"damaged key": func() []byte {
			return append(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("damaged")}),
				pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: selfSigned(host, ec, undue)})...)
		},
		"too large": func() []byte { return bytes.Repeat([]byte("-----BEGIN"), bundle.MaxSize/10+1) },
	}
	for name, entry := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.keep(host, entry())
				// RSA must not be the way out.
				cert, err := w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: host, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}})
				if err != nil {
					t.Fatal(err)
				}
				if len(w.ca.IssuedFor(host)) != 1 || !cert.Leaf.Equal(w.ca.IssuedFor(host)[0]) {
					t.Error("the certificate is not the CA's")
				}
				synctest.Wait()
				events := w.events.of(audit.CacheEntryRejected)
				if len(events) != 1 || events[0].Host != host || events[0].Err == nil || !events[0].IsFailure() {
					t.Errorf("events %v, want one that says what is wrong", events)
				}
				w.wantOrders(host, 1)
				w.restart()
				w.mustGet(host)
				w.wantOrders(host, 1)
			})
		})
	}
}

// TestBadTokenEntriesAreErrors: a challenge's answer that is damaged must not
// take the process down.
func TestBadTokenEntriesAreErrors(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.keep("a.example.com+token", []byte("-----BEGIN EC PRIVATE KEY-----\n"))
		hello := &tls.ClientHelloInfo{ServerName: "a.example.com", SupportedProtos: []string{acme.ALPNProto}}
		if cert, err := w.m.GetCertificate(hello); cert != nil || err == nil {
			t.Errorf("GetCertificate = %v, %v", cert, err)
		}
		w.wantOrders("a.example.com", 0)
	})
}

// TestRSAEntryUnderThePlainKey: an entry of the wrong type is read once and
// then replaced.
func TestRSAEntryUnderThePlainKey(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		key := testKeys()[bundle.RSA].(*rsa.PrivateKey)
		w.keep("a.example.com", mustEncode(key, selfSigned("a.example.com", key, undue)))
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 1)
		if reads := slices.DeleteFunc(w.cache.reads(), func(k string) bool { return k != "a.example.com" }); len(reads) != 1 {
			t.Errorf("the entry was read %d times", len(reads))
		}
	})
}

// TestCachedCertificateWithoutEndIsServed: 9999-12-31 stands for no end at all (RFC 5280,
// section 4.1.2.5), and internal CAs do use it. Nanoseconds overflow there.
func TestCachedCertificateWithoutEndIsServed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		key := testKeys()[bundle.ECDSA]
		end := time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), DNSNames: []string{"a.example.com"}, NotBefore: time.Now(), NotAfter: end}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		w.keep("a.example.com", mustEncode(key, der))
		for range 3 {
			if cert := w.mustGet("a.example.com"); !cert.Leaf.NotAfter.Equal(end) {
				t.Fatalf("a certificate that ends at %v is served", cert.Leaf.NotAfter)
			}
		}
		w.wantOrders("a.example.com", 0)
		if reads := w.cache.otherReads(); len(reads) != 1 {
			t.Errorf("the cache was read for %q, want one read", reads)
		}
	})
}
