package certmgr

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/renewal"
	"github.com/nostall/nostall/internal/text"
)

// maxOwn is how many certificates of a source are served.
const maxOwn = 10_000

// checked is one certificate of a source's answer.
type checked struct {
	name string
	cert *ownCert // nil if err is set, unless it has expired or is not valid yet
	err  error
}

// ownCheck checks the answers of a source. It runs within the call of the
// source, since the keys may be of a user's type.
type ownCheck struct {
	serving     map[string]*ownCert // by name
	renewBefore time.Duration
	now         time.Time
}

// all checks an answer.
func (ch *ownCheck) all(list []OwnCertificate) ([]checked, error) {
	if len(list) > maxOwn {
		return nil, fmt.Errorf("%d certificates are more than %d", len(list), maxOwn)
	}
	answer := make([]checked, 0, len(list))
	seen := make(map[string]bool)
	for i, c := range list {
		one := ch.one(c)
		one.name = cmp.Or(one.name, fmt.Sprintf("certificate %d of Manager.Certificates", i+1))
		if seen[one.name] {
			one = checked{name: fmt.Sprintf("%s (number %d)", one.name, i+1), err: fmt.Errorf("another certificate has the same name, %s; give each an OwnCertificate.Name of its own", one.name)}
		}
		seen[one.name] = true
		answer = append(answer, one)
	}
	return answer, nil
}

// one checks one certificate.
func (ch *ownCheck) one(c OwnCertificate) checked {
	one := checked{name: text.OneLine(c.Name, maxOwnSource), err: c.Err}
	if one.err != nil {
		return one
	}
	key, err := ownKey(c.Certificate)
	if err != nil {
		one.err = err
		return one
	}
	before := ch.serving[one.name]
	if before == nil || !before.isOf(c.Certificate, key) {
		if one.cert, one.err = ch.parse(c.Certificate, key); one.err != nil {
			return one
		}
		one.name = cmp.Or(one.name, one.cert.describe())
		one.cert.source = one.name
		before = ch.serving[one.name]
	} else {
		one.cert = before
	}
	one.err = ch.mayServe(one.cert, before)
	return one
}

// mayServe returns why a good certificate does not enter service now, or nil.
func (ch *ownCheck) mayServe(c, before *ownCert) error {
	switch {
	case ch.now.After(c.notAfter):
		return expiredOwn{c.notAfter}
	case ch.now.Before(c.notBefore):
		return fmt.Errorf("the certificate is valid from %s only; it enters service then", text.Stamp(c.notBefore))
	case before != nil && before.isValid(ch.now) && bundle.LacksIssuer(c.cert.Certificate, before.cert.Certificate):
		return errors.New("the chain lacks the certificate of the issuer, which the one in service has; append it to the file")
	}
	return nil
}

// expiredOwn is the error of a certificate that is good, but has expired.
type expiredOwn struct{ notAfter time.Time }

func (e expiredOwn) Error() string {
	return "the certificate expired at " + text.Stamp(e.notAfter) + "; replace it, or take it away"
}

// ownKey returns the private key of a certificate.
func ownKey(c *tls.Certificate) (crypto.Signer, error) {
	if c == nil || len(c.Certificate) == 0 {
		return nil, errors.New("there is no certificate")
	}
	key, ok := c.PrivateKey.(crypto.Signer)
	if !ok || key == nil {
		return nil, fmt.Errorf("the private key, a %T, is not a crypto.Signer", c.PrivateKey)
	}
	return key, nil
}

// isOf reports whether c was made from a certificate with this key.
func (c *ownCert) isOf(cert *tls.Certificate, key crypto.Signer) bool {
	return slices.EqualFunc(c.cert.Certificate, cert.Certificate, bytes.Equal) &&
		bytes.Equal(c.cert.OCSPStaple, cert.OCSPStaple) &&
		slices.EqualFunc(c.cert.SignedCertificateTimestamps, cert.SignedCertificateTimestamps, bytes.Equal) &&
		bundle.KeyID(c.cert.PrivateKey.(crypto.Signer).Public()) == bundle.KeyID(key.Public())
}

// parse checks that a certificate can be served.
func (ch *ownCheck) parse(cert *tls.Certificate, key crypto.Signer) (*ownCert, error) {
	leaf, err := bundle.CheckOwn(key, cert.Certificate)
	if err != nil {
		return nil, err
	}
	names := ownNames(leaf)
	if len(names) == 0 {
		return nil, errors.New("the certificate has no names: clients ignore its common name; it needs subject alternative names")
	}
	c := &ownCert{
		cert:      new(tls.Certificate),
		keyType:   bundle.OwnKeyType(leaf),
		class:     classOf(leaf.PublicKey),
		names:     names,
		notBefore: leaf.NotBefore,
		notAfter:  leaf.NotAfter,
		since:     ch.now,
	}
	*c.cert = *cert
	chain := slices.Clone(cert.Certificate)
	c.cert.Certificate, c.cert.Leaf = chain[:len(chain):len(chain)], leaf
	due := renewal.Dates{NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}.ByAge(ch.renewBefore)
	c.handover = due.Add(leaf.NotAfter.Sub(due) / 2)
	c.late = c.handover.Add(leaf.NotAfter.Sub(c.handover) / 2)
	return c, nil
}

// ownNames returns the names in a certificate.
func ownNames(leaf *x509.Certificate) (names []string) {
	for _, name := range leaf.DNSNames {
		base, wild := strings.CutPrefix(name, "*.")
		host, err := hosts.Normalize(base)
		if err != nil {
			host = ownHost(base)
		}
		if host == "" || strings.ContainsAny(host, "* \t\r\n\x00") || len(host) > hosts.MaxLength {
			continue // no client asks for it
		}
		if wild {
			host = "*." + host
		}
		names = append(names, host)
	}
	for _, ip := range leaf.IPAddresses {
		names = append(names, ownHost(ip.String()))
	}
	return names
}

// describe names a certificate that its source gave no name.
func (c *ownCert) describe() string {
	names := slices.Clone(c.names)
	slices.Sort(names)
	return text.OneLine(c.keyType+" certificate for "+strings.Join(names, ", "), maxOwnSource)
}
