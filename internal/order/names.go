package order

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/hosts"
)

// identifiers returns the identifiers of an order for names: of type "dns", or
// "ip" for addresses (RFC 8738, section 3).
func identifiers(names []string) []acme.AuthzID {
	ids := make([]acme.AuthzID, len(names))
	for i, name := range names {
		ids[i] = acme.AuthzID{Type: "dns", Value: name}
		if hosts.IsAddress(name) {
			ids[i].Type = "ip"
		}
	}
	return ids
}

// isFor reports whether an order is for names and no others.
func isFor(o *acme.Order, names []string) bool {
	for _, id := range o.Identifiers {
		if _, ok := nameOf(id, names); !ok {
			return false
		}
	}
	return true
}

// nameOf returns the one of names that an identifier stands for. Some CAs write
// names in their own way.
func nameOf(id acme.AuthzID, names []string) (name string, ok bool) {
	value := strings.TrimSuffix(id.Value, ".")
	i := slices.IndexFunc(names, func(name string) bool { return strings.EqualFold(value, name) })
	if i < 0 {
		return "", false
	}
	return names[i], true
}

// countOf says in words how many names there are.
func countOf(names []string) string {
	if len(names) == 1 {
		return "one name"
	}
	return fmt.Sprintf("%d names", len(names))
}

// newCSR returns the certificate request. Like autocert's it has a common name,
// the first host name, unless that exceeds the limit of 64 characters (RFC 5280,
// appendix A.1). An address is no common name: CAs refuse it there.
func (c *conversation) newCSR(key crypto.Signer) ([]byte, error) {
	tmpl := &x509.CertificateRequest{ExtraExtensions: c.req.Extra}
	for _, name := range c.req.Names {
		if hosts.IsAddress(name) {
			tmpl.IPAddresses = append(tmpl.IPAddresses, net.ParseIP(name))
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, name)
		}
	}
	if len(tmpl.DNSNames) > 0 && len(tmpl.DNSNames[0]) <= 64 {
		tmpl.Subject = pkix.Name{CommonName: tmpl.DNSNames[0]}
	}
	return x509.CreateCertificateRequest(rand.Reader, tmpl, key)
}
