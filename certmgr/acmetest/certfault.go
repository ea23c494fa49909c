package acmetest

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

// wrongName is the only name of a certificate after WrongName.
const wrongName = "wrong-name.acmetest.invalid"

// EditCertificate calls edit with the template of each certificate for a name
// just before it is signed. Edit may change the names, the dates, or the
// PublicKey to certify another key. It may run in several goroutines.
func (s *Server) EditCertificate(host string, edit func(leaf *x509.Certificate), options ...FaultOption) *Fault {
	if edit == nil {
		panic("acmetest: EditCertificate without a function")
	}
	return s.addHostFault(&hostFault{kind: faultEdit, host: host, edit: edit}, options)
}

// WrongName issues certificates for a name with another name instead:
// wrong-name.acmetest.invalid.
func (s *Server) WrongName(host string, options ...FaultOption) *Fault {
	return s.addHostFault(&hostFault{kind: faultEdit, name: "WrongName", host: host, edit: func(leaf *x509.Certificate) {
		leaf.Subject.CommonName = ""
		leaf.DNSNames, leaf.IPAddresses = []string{wrongName}, nil
	}}, options)
}

// WrongKey issues certificates for a name with a public key whose private key
// does not exist.
func (s *Server) WrongKey(host string, options ...FaultOption) *Fault {
	return s.addHostFault(&hostFault{kind: faultEdit, name: "WrongKey", host: host, edit: func(leaf *x509.Certificate) {
		leaf.PublicKey = newKey().Public()
		leaf.PublicKeyAlgorithm = x509.ECDSA
	}}, options)
}

// WrongDates issues certificates for a name that are valid from notBefore to
// notAfter inclusive, however wrong: expired, not yet valid, or ending before
// they begin. A zero time leaves that date unchanged.
func (s *Server) WrongDates(host string, notBefore, notAfter time.Time, options ...FaultOption) *Fault {
	return s.addHostFault(&hostFault{kind: faultEdit, name: "WrongDates", host: host, edit: func(leaf *x509.Certificate) {
		if !notBefore.IsZero() {
			leaf.NotBefore = notBefore
		}
		if !notAfter.IsZero() {
			leaf.NotAfter = notAfter
		}
	}}, options)
}

// EditChain calls edit with the chain of each certificate for a name, in DER
// and leaf first, when it is issued. The CA sends what edit returns: a chain
// without an intermediate, in another order, empty, or with invalid
// certificates. With AlternateChains, edit is called for each chain. It may
// modify its argument and may run in several goroutines. Issued still returns
// the leaf that was signed.
func (s *Server) EditChain(host string, edit func(chain [][]byte) [][]byte, options ...FaultOption) *Fault {
	if edit == nil {
		panic("acmetest: EditChain without a function")
	}
	return s.addHostFault(&hostFault{kind: faultChain, host: host, editChain: edit}, options)
}

// WrongChain sends chains for a name that consist of the leaf and a wrong
// intermediate. That has the right name, but another key, and leads to an
// untrusted root.
func (s *Server) WrongChain(host string, options ...FaultOption) *Fault {
	foreign := newAuthority().intermediate.Raw
	replace := func(chain [][]byte) [][]byte { return [][]byte{chain[0], foreign} }
	return s.addHostFault(&hostFault{kind: faultChain, name: "WrongChain", host: host, editChain: replace}, options)
}

// editChains applies EditChain to the chains of a certificate, which are in
// DER, and returns them in PEM.
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
