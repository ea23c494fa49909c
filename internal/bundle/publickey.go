package bundle

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
)

// publicKeyType is the type of the PEM block of a public key (RFC 7468, section
// 13). An entry begins with it if the private key cannot be exported, from a
// hardware module for example. For autocert such an entry counts as missing.
const publicKeyType = "PUBLIC KEY"

// PublicOnly stands for a private key that an entry does not have: it cannot sign.
type PublicOnly struct{ key crypto.PublicKey }

// Public returns the public key, whose private key is elsewhere.
func (k *PublicOnly) Public() crypto.PublicKey { return k.key }

// Sign returns an error.
func (k *PublicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("only the public key is known here")
}

// IsExportable reports whether a private key can be written.
func IsExportable(key crypto.Signer) bool {
	switch key.(type) {
	case *ecdsa.PrivateKey, *rsa.PrivateKey:
		return true
	}
	return false
}

// EncodeSigner writes the PEM block of a private key or, if it is not exportable,
// of its public key.
func EncodeSigner(buf *bytes.Buffer, key crypto.Signer) error {
	if IsExportable(key) {
		return EncodeKey(buf, key)
	}
	if err := CheckPublicKey(key.Public()); err != nil {
		return fmt.Errorf("private keys of type %T cannot be stored: %w", key, err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return pem.Encode(buf, &pem.Block{Type: publicKeyType, Bytes: der})
}

// DecodeSigner parses the key at the start of an entry, and returns the rest of
// the entry. A public key is a *PublicOnly. No error reveals any of the key.
func DecodeSigner(data []byte) (key crypto.Signer, rest []byte, err error) {
	if err := checkSize(data); err != nil {
		return nil, nil, err
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != publicKeyType {
		return DecodeKey(data)
	}
	if len(block.Bytes) > maxPrivateKey {
		return nil, nil, fmt.Errorf("public key of %d bytes is too large: the limit is %d", len(block.Bytes), maxPrivateKey)
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, nil, errors.New("public key cannot be parsed")
	}
	if err := CheckPublicKey(pub); err != nil {
		return nil, nil, err
	}
	return &PublicOnly{pub}, rest, nil
}

// minIssuedBits is the smallest RSA key that public CAs certify.
const minIssuedBits = 2048

// CheckPublicKey returns why crypto/tls or public CAs do not accept certificates
// for a key, or nil.
func CheckPublicKey(pub crypto.PublicKey) error {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		case nil:
			return errors.New("an ECDSA key has no curve")
		}
		return fmt.Errorf("ECDSA keys on %.20s are not supported: take P-256 or P-384", pub.Curve.Params().Name)
	case *rsa.PublicKey:
		if bits := pub.N.BitLen(); bits < minIssuedBits || bits > maxRSABits {
			return fmt.Errorf("RSA keys with %d bits are not supported: take 2,048 to %d", bits, maxRSABits)
		}
		return nil
	}
	return fmt.Errorf("keys of type %T are not supported: take ECDSA or RSA", pub)
}

// EqualKeys reports whether two public keys are the same.
func EqualKeys(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// AlgorithmOfKey is AlgorithmOf for a public key that CheckPublicKey accepts.
func AlgorithmOfKey(pub crypto.PublicKey) Algorithm {
	if _, ok := pub.(*rsa.PublicKey); ok {
		return RSA
	}
	return ECDSA
}
