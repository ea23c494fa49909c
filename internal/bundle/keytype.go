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

	// KeyTypes is how many there are.
	KeyTypes = 2
)

// String returns "ECDSA" or "RSA".
func (k KeyType) String() string {
	if k == RSA {
		return "RSA"
	}
	return "ECDSA"
}

// TypeOf returns the type of a certificate's key, and whether it is one of KeyType.
func TypeOf(leaf *x509.Certificate) (KeyType, bool) {
	switch leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return ECDSA, true
	case *rsa.PublicKey:
		return RSA, true
	}
	return 0, false
}

// GenerateKey makes a certificate's key. It takes up to seconds for RSA.
func GenerateKey(kt KeyType) (crypto.Signer, error) {
	if kt == RSA {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}
