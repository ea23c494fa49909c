package acmetest

import (
	"crypto"
	"crypto/x509"
	"time"
)

// DuplicateChain sends chains for a name in which each certificate comes twice.
// Some CAs send the leaf twice.
func (s *Server) DuplicateChain(host string, options ...FaultOption) *Fault {
	double := func(chain [][]byte) [][]byte {
		var twice [][]byte
		for _, der := range chain {
			twice = append(twice, der, der)
		}
		return twice
	}
	return s.addHostFault(&hostFault{kind: faultChain, name: "DuplicateChain", host: host, editChain: double}, options)
}

// CrossSignedChain sends chains for a name that end with two roots which certify
// each other: that of Roots and an older one, which no client of this test
// trusts. Such chains lead to both, and never end for a client that follows them
// without care. CAs cross-sign a new root until clients know it, as Let's
// Encrypt did with DST Root CA X3.
func (s *Server) CrossSignedChain(host string, options ...FaultOption) *Fault {
	old := newRoot("acmetest Old Root")
	oldKey := old.PrivateKey.(crypto.Signer)
	roots := [][]byte{
		crossSign(s.ca.root, s.ca.rootKey.Public(), old.Leaf, oldKey),
		crossSign(old.Leaf, oldKey.Public(), s.ca.root, s.ca.rootKey),
	}
	add := func(chain [][]byte) [][]byte { return append(chain, roots...) }
	return s.addHostFault(&hostFault{kind: faultChain, name: "CrossSignedChain", host: host, editChain: add}, options)
}

// crossSign returns the certificate of a root by another one, in DER.
func crossSign(root *x509.Certificate, pub crypto.PublicKey, by *x509.Certificate, key crypto.Signer) []byte {
	template := caTemplate("", pub, time.Now().AddDate(20, 0, 0))
	template.Subject = root.Subject
	return mustCreate(template, by, pub, key)
}
