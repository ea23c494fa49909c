package order

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"
)

// The identifiers of an order and the names of its certificate request say the
// same (RFC 8555, section 7.4; RFC 8738, section 3).
func TestOrderAndRequestHaveTheSameNames(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("a", 60) + ".example.com"
	for _, test := range []struct {
		names  []string
		common string
	}{
		{[]string{"www.example.com"}, "www.example.com"},
		{[]string{"a.example.com", "b.example.com"}, "a.example.com"},
		{[]string{"192.0.2.1"}, ""},
		{[]string{"2001:db8::1"}, ""},
		{[]string{"192.0.2.1", "www.example.com"}, "www.example.com"},
		{[]string{long}, ""},
	} {
		c := &conversation{req: Request{Names: test.names}}
		der, err := c.newCSR(key)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		names := slices.Clone(csr.DNSNames)
		for _, ip := range csr.IPAddresses {
			names = append(names, ip.String())
		}
		var ids []string
		for _, id := range identifiers(test.names) {
			ids = append(ids, id.Value)
			if (id.Type == "ip") != (net.ParseIP(id.Value) != nil) {
				t.Errorf("%s is of type %s", id.Value, id.Type)
			}
		}
		slices.Sort(names)
		slices.Sort(ids)
		if !slices.Equal(names, ids) || csr.Subject.CommonName != test.common {
			t.Errorf("%q: request for %q with common name %q, order for %q", test.names, names, csr.Subject.CommonName, ids)
		}
	}
}

// Each authorization is answered for its own name, and that of the only name
// for it, however the CA writes it.
func TestAuthorizationIsForItsName(t *testing.T) {
	for _, test := range []struct {
		names       []string
		value, want string
	}{
		{[]string{"a.example.com", "b.example.com"}, "B.example.com.", "b.example.com"},
		{[]string{"a.example.com"}, "something else", "a.example.com"},
		{[]string{"2001:db8::1", "a.example.com"}, "2001:DB8::1", "2001:db8::1"},
	} {
		c := &conversation{req: Request{Names: test.names}}
		if got := c.name(&acme.Authorization{Identifier: acme.AuthzID{Value: test.value}}); got != test.want {
			t.Errorf("%q of %q is answered for %q, want %q", test.value, test.names, got, test.want)
		}
	}
}
