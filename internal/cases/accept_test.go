package cases

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// entry is what a cache may hold for host.
type entry struct {
	autocert, certmgr bool                      // who serves it
	edit              func(c *x509.Certificate) // the leaf; nil if it stays
	curve             elliptic.Curve            // of the key; nil means P-256
	join              func(c links) string      // nil means leaf and intermediate
}

// links are certificates from which entries are made: a leaf, its intermediate
// and root, and an intermediate of another CA.
type links struct{ leaf, issuer, root, other []byte }

// entries returns certificates that autocert serves, with what certmgr says of
// them: it refuses those that clients refuse.
func entries() map[string]entry {
	harmful := func(f func(c *x509.Certificate)) entry { return entry{autocert: true, edit: f} }
	harmless := func(f func(c *x509.Certificate)) entry { return entry{autocert: true, certmgr: true, edit: f} }
	badChain := func(f func(c links) string) entry { return entry{autocert: true, join: f} }
	chain := func(f func(c links) string) entry { return entry{autocert: true, certmgr: true, join: f} }
	usage := func(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = u }
	}
	extension := func(critical bool, id ...int) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: id, Critical: critical, Value: []byte{5, 0}}}
		}
	}
	more := func(n int) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			for i := range n {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("host-%06d.example.com", i))
			}
		}
	}
	return map[string]entry{
		"sound":                   harmless(nil),
		"no extended key usage":   harmless(usage()),
		"any extended key usage":  harmless(usage(x509.ExtKeyUsageAny)),
		"serverAuth among others": harmless(usage(x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)),
		"clientAuth alone":        harmful(usage(x509.ExtKeyUsageClientAuth)),
		"unknown extended key usage": harmful(func(c *x509.Certificate) {
			c.ExtKeyUsage, c.UnknownExtKeyUsage = nil, []asn1.ObjectIdentifier{{1, 2, 3}}
		}),
		"CA":                         harmful(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }),
		"basic constraints, no CA":   harmless(func(c *x509.Certificate) { c.BasicConstraintsValid = true }),
		"unknown extension":          harmless(extension(false, 1, 2, 3, 4)),
		"unknown critical extension": harmful(extension(true, 1, 2, 3, 4)),
		"precertificate":             harmful(extension(true, 1, 3, 6, 1, 4, 1, 11129, 2, 4, 3)),
		"answer to tls-alpn-01":      harmful(extension(true, 1, 3, 6, 1, 5, 5, 7, 1, 31)),
		"no key usage":               harmless(func(c *x509.Certificate) { c.KeyUsage = 0 }),
		"not valid yet":              {certmgr: true, edit: func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }},
		"ended":                      {edit: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }},
		"P-521":                      {autocert: true, certmgr: true, curve: elliptic.P521()},
		"P-224":                      {autocert: true, curve: elliptic.P224()},
		"100 names":                  harmless(more(100)),
		"2,000 names":                harmful(more(2000)),

		"leaf alone":                  chain(func(c links) string { return pemCerts(c.leaf) }),
		"leaf twice and alone":        chain(func(c links) string { return pemCerts(c.leaf, c.leaf) }),
		"root before intermediate":    chain(func(c links) string { return pemCerts(c.leaf, c.root, c.issuer) }),
		"another CA's too":            chain(func(c links) string { return pemCerts(c.leaf, c.other, c.issuer) }),
		"another CA's instead":        badChain(func(c links) string { return pemCerts(c.leaf, c.other) }),
		"root without intermediate":   badChain(func(c links) string { return pemCerts(c.leaf, c.root) }),
		"two certificates in a block": badChain(func(c links) string { return pemCerts(slices.Concat(c.leaf, c.issuer)) }),
		"16 certificates":             chain(func(c links) string { return pemCerts(c.leaf) + strings.Repeat(pemCerts(c.issuer), 15) }),
		"17 certificates":             badChain(func(c links) string { return pemCerts(c.leaf) + strings.Repeat(pemCerts(c.issuer), 16) }),
		"PEM headers": chain(func(c links) string {
			return strings.Replace(pemCerts(c.leaf, c.issuer), "-----\n", "-----\nname: value\n\n", 1)
		}),
	}
}

// text returns the entry with its key.
func (e entry) text(t *T) string {
	t.Helper()
	curve, join := e.curve, e.join
	if curve == nil {
		curve = elliptic.P256()
	}
	if join == nil {
		join = func(c links) string { return pemCerts(c.leaf, c.issuer) }
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	is := newIssuer(t)
	otherKey := newKey(t)
	other := caTemplate("Intermediate of another CA")
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(7), DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 80),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if e.edit != nil {
		e.edit(leaf)
	}
	return pemEC(t, key) + join(links{
		leaf:   sign(t, leaf, is.intermediate, key.Public(), is.key),
		issuer: is.intermediate.Raw,
		root:   is.root.Raw,
		other:  sign(t, other, other, otherKey.Public(), otherKey),
	})
}

// What autocert serves without harm is served from the cache. What clients
// refuse counts as missing, which is an event that says why.
func TestWhatIsAcceptedFromTheCache(t *testing.T) {
	for name, e := range entries() {
		table.Run(t, "accepted/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				text := e.text(t)
				w.cache.Put(t.Context(), host, []byte(text))
				_, err := w.m.GetCertificate(ecdsaHello(host))
				if err != nil {
					t.Fatal(err)
				}
				if served := w.newOrders() == 0; served != e.certmgr {
					t.Errorf("served: %v, want %v", served, e.certmgr)
				}
				w.m.Close()
				if n := len(w.events.of(audit.CacheEntryRejected)); n != 1 && !e.certmgr || n != 0 && e.certmgr {
					t.Errorf("%d events about the entry", n)
				}

				before := w.newOrders()
				old := new(cache.Memory)
				old.Put(t.Context(), host, []byte(text))
				_, err = w.autocert(old).GetCertificate(ecdsaHello(host))
				if served := err == nil && w.newOrders() == before; served != e.autocert {
					t.Errorf("autocert serves it: %v, error %v; want %v", served, err, e.autocert)
				}
			})
		})
	}
}
