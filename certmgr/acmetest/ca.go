package acmetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/netip"
	"time"
)

const (
	defaultLifetime = 90 * 24 * time.Hour
	maxBackdate     = time.Hour
	maxCommonName   = 64
)

// authority holds the keys of the CA: a root, and the intermediate that signs
// leaves. It does not change after the start.
type authority struct {
	root            *x509.Certificate
	rootKey         crypto.Signer
	intermediate    *x509.Certificate
	intermediateKey *ecdsa.PrivateKey
	alternates      []issuer // other roots' certificates for the intermediate's key
}

func newAuthority() *authority { return authorityOf(newRoot("acmetest Root")) }

// authorityOf returns an authority with this root and a new intermediate.
func authorityOf(root *tls.Certificate) *authority {
	key := newKey()
	i := newIssuer(root, key.Public())
	return &authority{root: i.root, rootKey: root.PrivateKey.(crypto.Signer), intermediate: i.intermediate, intermediateKey: key}
}

func caTemplate(name string, pub crypto.PublicKey, notAfter time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{"acmetest"}, CommonName: name},
		NotBefore:             time.Now().AddDate(-1, 0, 0),
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		SubjectKeyId:          keyID(pub),
	}
}

// domainValidated is the CA/Browser Forum's policy for domain-validated
// certificates.
func domainValidated() []x509.OID {
	oid, err := x509.OIDFromInts([]uint64{2, 23, 140, 1, 2, 1})
	if err != nil {
		panic("acmetest: " + err.Error())
	}
	return []x509.OID{oid}
}

// newSerial returns 18 random bytes. The first one is fixed, as at Let's
// Encrypt, so that the number is positive.
func newSerial() *big.Int {
	b := make([]byte, 18)
	rand.Read(b)
	b[0] = 0x04
	return new(big.Int).SetBytes(b)
}

func keyID(pub crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic("acmetest: " + err.Error())
	}
	sum := sha256.Sum256(der)
	return sum[:20]
}

// template returns the leaf of an order before it is edited and signed. Its
// PublicKey is the key to be certified.
func (s *Server) template(o *order, pub crypto.PublicKey) *x509.Certificate {
	period := o.dates
	if period == (dates{}) {
		period = s.usualDates(o.profile)
	}
	leaf := &x509.Certificate{
		SerialNumber:          newSerial(),
		NotBefore:             period.notBefore,
		NotAfter:              period.notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		SubjectKeyId:          keyID(pub),
		IssuingCertificateURL: []string{"http://i.acmetest.invalid/"},
		CRLDistributionPoints: []string{"http://c.acmetest.invalid/1.crl"},
		Policies:              domainValidated(),
		PublicKey:             pub,
	}
	commonName := !s.Profiles[o.profile].NoCommonName
	for _, host := range o.hosts {
		if addr, err := netip.ParseAddr(host); err == nil {
			leaf.IPAddresses = append(leaf.IPAddresses, addr.AsSlice())
			continue
		}
		leaf.DNSNames = append(leaf.DNSNames, host)
		if commonName && len(host) <= maxCommonName {
			leaf.Subject.CommonName, commonName = host, false
		}
	}
	if _, ok := pub.(*rsa.PublicKey); ok {
		leaf.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	return leaf
}

// issue signs a certificate for a CSR, after the edits of EditCertificate,
// unless FailFinalize applies. s.mu is not held.
func (s *Server) issue(o *order, request *x509.CertificateRequest) (*certificate, *Problem) {
	if problem := s.finalizeProblem(o.hosts); problem != nil {
		return nil, problem
	}
	template := s.template(o, request.PublicKey)
	for _, f := range s.hosts.take(faultEdit, o.hosts...) {
		f.edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.ca.intermediate, template.PublicKey, s.ca.intermediateKey)
	if err != nil {
		return nil, problemf("serverInternal", "the certificate cannot be signed: %v", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, problemf("serverInternal", "the certificate cannot be read: %v", err)
	}
	return &certificate{
		account: o.account,
		hosts:   o.hosts,
		leaf:    leaf,
		request: request,
		chains:  s.editChains(o.hosts, s.ca.chains(leaf)),
		certID:  CertID(leaf),
	}, nil
}

func mustCreate(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) []byte {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		panic("acmetest: cannot sign a certificate: " + err.Error())
	}
	return der
}

func mustParse(der []byte) *x509.Certificate {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic("acmetest: " + err.Error())
	}
	return cert
}
