package cases

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// An oldEntry is a certificate in a cache written by another program or edited
// by hand. Zero fields are as autocert writes them.
type oldEntry struct {
	name     string
	autocert bool                                                    // autocert serves it
	key      func(t *T) (key crypto.Signer, text string)             // and its PEM block
	names    []string                                                // of the certificate
	join     func(key, leaf, intermediate, root string) (pem string) // of PEM blocks
}

func oldEntries() []oldEntry {
	params := "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
	return []oldEntry{
		{name: "P-256", autocert: true},
		{name: "P-384", autocert: true, key: func(t *T) (crypto.Signer, string) {
			key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			return key, pemEC(t, key)
		}},
		{name: "RSA", autocert: true, key: func(t *T) (crypto.Signer, string) {
			key, err := rsa.GenerateKey(rand.Reader, 3072)
			if err != nil {
				t.Fatal(err)
			}
			return key, pemKey(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), nil)
		}},
		{name: "PKCS 8", autocert: true, key: func(t *T) (crypto.Signer, string) {
			key := newKey(t)
			return key, pemPKCS8(t, key)
		}},
		{name: "Ed25519", key: func(t *T) (crypto.Signer, string) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			return key, pemPKCS8(t, key)
		}},
		{name: "several names", autocert: true, names: []string{"example.com", host, "*.example.com"}},
		{name: "wildcard", autocert: true, names: []string{"*.example.com"}},
		{name: "no intermediate", autocert: true, join: func(k, l, i, r string) string { return k + l }},
		{name: "with the root", autocert: true, join: func(k, l, i, r string) string { return k + l + i + r }},
		{name: "root before intermediate", autocert: true, join: func(k, l, i, r string) string { return k + l + r + i }},
		{name: "intermediate twice", autocert: true, join: func(k, l, i, r string) string { return k + l + i + i }},
		{name: "leaf last", join: func(k, l, i, r string) string { return k + i + l }},
		{name: "CRLF", autocert: true, join: func(k, l, i, r string) string { return strings.ReplaceAll(k+l+i, "\n", "\r\n") }},
		{name: "blank lines between", autocert: true, join: func(k, l, i, r string) string { return k + "\n" + l + "\n" + i }},
		{name: "blank line at the end", join: func(k, l, i, r string) string { return k + l + i + "\n" }},
		{name: "comment at the end", join: func(k, l, i, r string) string { return k + l + i + "# renewed by hand\n" }},
		{name: "EC PARAMETERS first", join: func(k, l, i, r string) string { return params + k + l + i }},
		{name: "certificate first", join: func(k, l, i, r string) string { return l + i + k }},
		{name: "byte order mark", join: func(k, l, i, r string) string { return "\xef\xbb\xbf" + k + l + i }},
	}
}

// text returns the entry and its key in the cache.
func (e oldEntry) text(t *T) (key, text string) {
	t.Helper()
	var signer crypto.Signer
	var block string
	if e.key != nil {
		signer, block = e.key(t)
	} else {
		ec := newKey(t)
		signer, block = ec, pemEC(t, ec)
	}
	names, join := e.names, e.join
	if names == nil {
		names = []string{host}
	}
	if join == nil {
		join = func(k, l, i, r string) string { return k + l + i }
	}
	key = host
	if e.name == "RSA" {
		key += "+rsa"
	}
	is := newIssuer(t)
	return key, join(block, pemCerts(is.leaf(t, signer.Public(), names...)), pemCerts(is.intermediate.Raw), pemCerts(is.root.Raw))
}

// B41: certmgr serves what autocert serves from its cache, without an order.
func TestAnOldEntryThatAutocertServesIsServed(t *testing.T) {
	for _, e := range oldEntries() {
		table.Run(t, "B41/"+e.name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				key, text := e.text(t)
				hello := ecdsaHello(host)
				if strings.HasSuffix(key, "+rsa") {
					hello = rsaHello(host)
				}
				w.cache.Put(t.Context(), key, []byte(text))
				_, err := w.m.GetCertificate(hello)
				served := err == nil && w.newOrders() == 0
				w.m.Close()

				before := w.newOrders()
				old := new(cache.Memory)
				old.Put(t.Context(), key, []byte(text))
				_, err = w.autocert(old).GetCertificate(hello)
				if servedByAutocert := err == nil && w.newOrders() == before; servedByAutocert != e.autocert {
					t.Errorf("autocert serves it: %v, error %v; want %v", servedByAutocert, err, e.autocert)
				}
				if e.autocert && !served {
					t.Errorf("not served, and %d orders; events: %v", before, w.events.of(audit.CacheEntryRejected))
				}
			})
		})
	}
}
