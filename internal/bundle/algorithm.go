package bundle

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
)

// Algorithm is the public key algorithm of a certificate. A host has at most one
// certificate for each, whatever the curve or the size of its key.
type Algorithm uint8

const (
	ECDSA Algorithm = iota
	RSA

	// Algorithms is the number of algorithms.
	Algorithms = 2
)

// String returns "ECDSA" or "RSA".
func (a Algorithm) String() string {
	if a == RSA {
		return "RSA"
	}
	return "ECDSA"
}

// AlgorithmOf returns the algorithm of a certificate's key. ok is false if it is
// neither RSA nor ECDSA on a curve that crypto/tls can use.
func AlgorithmOf(leaf *x509.Certificate) (alg Algorithm, ok bool) {
	switch key := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return ECDSA, key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521()
	case *rsa.PublicKey:
		return RSA, true
	}
	return 0, false
}
