package bundle

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
)

// KeyType is the type of a key that is generated for a certificate.
type KeyType uint8

const (
	P256 KeyType = iota
	P384
	RSA2048
	RSA3072
	RSA4096

	// KeyTypes is the number of key types.
	KeyTypes = 5
)

// String returns the name of the type, such as "P-256" or "RSA 2048".
func (kt KeyType) String() string {
	switch kt {
	case P256:
		return "P-256"
	case P384:
		return "P-384"
	}
	return fmt.Sprintf("RSA %d", kt.bits())
}

// bits returns the size of an RSA key, 0 for other types.
func (kt KeyType) bits() int {
	switch kt {
	case RSA2048:
		return 2048
	case RSA3072:
		return 3072
	case RSA4096:
		return 4096
	}
	return 0
}

// Algorithm returns the algorithm of such keys.
func (kt KeyType) Algorithm() Algorithm {
	if kt.bits() > 0 {
		return RSA
	}
	return ECDSA
}

// DefaultKeyType returns the type of keys of an algorithm that autocert
// generates.
func DefaultKeyType(a Algorithm) KeyType {
	if a == RSA {
		return RSA2048
	}
	return P256
}

// Is reports whether a key is of the type.
func (kt KeyType) Is(pub crypto.PublicKey) bool {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return pub.Curve == kt.curve()
	case *rsa.PublicKey:
		return pub.N.BitLen() == kt.bits()
	}
	return false
}

// curve returns the curve of ECDSA keys, nil for other types.
func (kt KeyType) curve() elliptic.Curve {
	switch kt {
	case P256:
		return elliptic.P256()
	case P384:
		return elliptic.P384()
	}
	return nil
}

// GenerateKey generates a certificate's key. For RSA this can take seconds.
func GenerateKey(kt KeyType) (crypto.Signer, error) {
	if bits := kt.bits(); bits > 0 {
		return rsa.GenerateKey(rand.Reader, bits)
	}
	return ecdsa.GenerateKey(kt.curve(), rand.Reader)
}
