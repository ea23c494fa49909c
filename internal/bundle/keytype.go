package bundle

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
)

// KeyType is the kind of a certificate's key.
type KeyType uint8

const (
	ECDSA KeyType = iota // P-256
	RSA                  // 2048 bits

	// KeyTypes is the number of key types.
	KeyTypes = 2
)

// String returns "ECDSA" or "RSA".
func (k KeyType) String() string {
	if k == RSA {
		return "RSA"
	}
	return "ECDSA"
}

// TypeOf returns the type of a certificate's key. ok is false if it is neither
// RSA nor ECDSA on a curve that crypto/tls can use.
func TypeOf(leaf *x509.Certificate) (kt KeyType, ok bool) {
	switch key := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return ECDSA, key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521()
	case *rsa.PublicKey:
		return RSA, true
	}
	return 0, false
}

// GenerateKey generates a certificate's key. For RSA this can take seconds.
func GenerateKey(kt KeyType) (crypto.Signer, error) {
	if kt == RSA {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}
