package acmetest

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"time"
)

// NewRoot returns a new root certificate and its key, for the field Root of
// servers that are to share it. Its subject is unlike that of any other root,
// so that programs that look up issuers by subject, as OpenSSL does, can trust
// several at once.
func NewRoot() *tls.Certificate { return newRoot("acmetest Root") }

// newRoot creates a root that is valid for longer than any test in virtual
// time. Its name is made distinct.
func newRoot(name string) *tls.Certificate {
	key := newKey()
	template := caTemplate(name+" "+distinct(), key.Public(), time.Now().AddDate(40, 0, 0))
	der := mustCreate(template, template, key.Public(), key)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: mustParse(der)}
}

// distinct returns the part of a subject that no other certificate has.
func distinct() string {
	b := make([]byte, 4)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// checkedRoot returns a copy of a root with its Leaf. It panics if that cannot
// be the root of a CA.
func checkedRoot(root *tls.Certificate) *tls.Certificate {
	c := *root
	if c.Leaf == nil {
		if len(c.Certificate) == 0 {
			panic("acmetest: Root has no certificate")
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			panic("acmetest: the certificate of Root cannot be read: " + err.Error())
		}
		c.Leaf = leaf
	}
	key, ok := c.PrivateKey.(crypto.Signer)
	if !ok {
		panic("acmetest: Root has no private key that signs")
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(c.Leaf.PublicKey):
		panic("acmetest: the private key of Root is not that of its certificate")
	case !c.Leaf.IsCA:
		panic("acmetest: the certificate of Root is not that of a CA")
	}
	return &c
}

// root returns the root certificate, also before the start.
func (s *Server) root() *x509.Certificate {
	if s.Root != nil {
		return checkedRoot(s.Root).Leaf
	}
	return s.ca.root
}

// Roots returns a new pool with the root of the issued certificates and of the
// listener's certificate.
func (s *Server) Roots() *x509.CertPool {
	s.mustBeUsable()
	pool := x509.NewCertPool()
	pool.AddCert(s.root())
	return pool
}

// RootPEM returns the root that Roots contains in PEM, for programs that read
// it from a file: it is all that they need to trust the CA's URLs and the
// issued certificates. Files of several servers can be joined into one.
func (s *Server) RootPEM() []byte {
	s.mustBeUsable()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.root().Raw})
}

// Certificate returns the certificate of the listener, or nil if there is none:
// in memory, or before the start. The root has signed it, so programs that do
// not accept a certificate of a server as trusted by itself need RootPEM.
func (s *Server) Certificate() *x509.Certificate {
	s.mustBeUsable()
	if cert := s.front.cert; cert != nil {
		return cert.Leaf
	}
	return nil
}
