package acmetest

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

// wrongName is the only name of a certificate after WrongName.
const wrongName = "wrong-name.acmetest.invalid"

// EditCertificate calls edit with the template of each certificate for a name just before it is signed: change its
// names, its dates, or its PublicKey to sign over a foreign key. Edit may run in several goroutines.
func (s *Server) EditCertificate(host string, edit func(leaf *x509.Certificate), options ...FaultOption) (lift func()) {
	return s.hosts.add(&hostFault{kind: faultEdit, host: host, edit: edit}, options)
}

// WrongName makes certificates for a name be for another one only: wrong-name.acmetest.invalid.
func (s *Server) WrongName(host string, options ...FaultOption) (lift func()) {
	return s.EditCertificate(host, func(leaf *x509.Certificate) {
		leaf.Subject.CommonName = ""
		leaf.DNSNames, leaf.IPAddresses = []string{wrongName}, nil
	}, options...)
}

// WrongKey makes certificates for a name certify a key that nobody has.
func (s *Server) WrongKey(host string, options ...FaultOption) (lift func()) {
	return s.EditCertificate(host, func(leaf *x509.Certificate) {
		leaf.PublicKey = newKey().Public()
		leaf.PublicKeyAlgorithm = x509.ECDSA
	}, options...)
}

// WrongDates makes certificates for a name be valid from notBefore to notAfter, both included, whatever that is: expired,
// not yet valid, the end before the start. A zero time leaves that end as it is.
func (s *Server) WrongDates(host string, notBefore, notAfter time.Time, options ...FaultOption) (lift func()) {
	return s.EditCertificate(host, func(leaf *x509.Certificate) {
		if !notBefore.IsZero() {
			leaf.NotBefore = notBefore
		}
		if !notAfter.IsZero() {
			leaf.NotAfter = notAfter
		}
	}, options...)
}

// EditChain calls edit with the DER of the chain of each certificate for a name, leaf first, when it is issued, and
// sends what edit returns instead: a chain without intermediate, in another order, empty, or with bytes that are no
// certificate. With AlternateChains, edit is called for each chain. It may change its argument, and run in several
// goroutines. What Issued returns stays the leaf that was signed.
func (s *Server) EditChain(host string, edit func(chain [][]byte) [][]byte, options ...FaultOption) (lift func()) {
	return s.hosts.add(&hostFault{kind: faultChain, host: host, editChain: edit}, options)
}

// WrongChain makes chains for a name consist of the leaf and an intermediate that has the right name but did not sign
// it: it has another key, and leads to a root that nobody trusts.
func (s *Server) WrongChain(host string, options ...FaultOption) (lift func()) {
	foreign := newAuthority().intermediate.Raw
	return s.EditChain(host, func(chain [][]byte) [][]byte { return [][]byte{chain[0], foreign} }, options...)
}

// editChains applies the faults of chains to the chains of a certificate, which are in DER, and returns them in PEM.
func (s *Server) editChains(hosts []string, chains [][][]byte) [][]byte {
	faults := s.hosts.take(faultChain, hosts...)
	var list [][]byte
	for _, chain := range chains {
		for _, f := range faults {
			chain = f.editChain(slices.Clone(chain))
		}
		list = append(list, chainPEM(chain))
	}
	return list
}

// chainPEM returns a chain as application/pem-certificate-chain. It is not nil.
func chainPEM(chain [][]byte) []byte {
	b := []byte{}
	for _, der := range chain {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return b
}
