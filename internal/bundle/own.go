package bundle

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// DecodeFile returns the private keys and certificates of a file in PEM, which
// may hold either or both, in any order. Text between the blocks and blocks of
// other types, such as parameters, are ignored. It does not check what belongs
// together. No error reveals any of a key.
func DecodeFile(data []byte) (keys []crypto.Signer, certs [][]byte, err error) {
	if err := checkSize(data); err != nil {
		return nil, nil, err
	}
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		switch {
		case block.Type == "CERTIFICATE":
			if len(certs) == MaxChain {
				return nil, nil, tooLong(MaxChain + 1)
			}
			certs = append(certs, block.Bytes)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			key, err := decodeFileKey(block)
			if err != nil {
				return nil, nil, err
			}
			if len(keys) == MaxChain {
				return nil, nil, fmt.Errorf("more than %d private keys", MaxChain)
			}
			keys = append(keys, key)
		}
	}
	switch {
	case bytes.Contains(data, []byte("-----BEGIN")):
		return nil, nil, errors.New("a PEM block is cut short or damaged; write the file again")
	case len(keys)+len(certs) == 0:
		return nil, nil, errors.New("no certificate and no private key in PEM found")
	}
	return keys, certs, nil
}

// decodeFileKey parses a private key: what DecodeKey accepts, and Ed25519.
func decodeFileKey(block *pem.Block) (crypto.Signer, error) {
	if strings.HasPrefix(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, errors.New("the private key is encrypted; decrypt it, for example by openssl pkey")
	}
	if err := checkPrivateKey(block.Bytes); err != nil {
		return nil, err
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		if key, ok := key.(ed25519.PrivateKey); ok {
			return key, nil
		}
	}
	key, _, err := DecodeKey(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
	return key, err
}

// CheckOwn parses a chain that an operator has provided and checks that its
// leaf belongs to key, has a key that crypto/tls can use, that TLS clients can
// accept it, and that another certificate of the chain, if there is one, is its
// issuer's. A self-signed certificate may be that of a CA, as openssl req makes
// it. It checks neither names nor dates.
func CheckOwn(key crypto.Signer, chain [][]byte) (*x509.Certificate, error) {
	certs, err := parseChain(chain)
	if err != nil {
		return nil, err
	}
	leaf := certs[0]
	if !isFor(leaf, key) {
		return nil, ErrOtherKey
	}
	if OwnKeyType(leaf) == "" {
		return nil, fmt.Errorf("certificate has a key that TLS servers cannot use, of type %s", leaf.PublicKeyAlgorithm)
	}
	use := *leaf
	use.IsCA = leaf.IsCA && !isSelfIssued(leaf)
	if err := checkUse(&use); err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(slices.Clone(certs[1:]), leaf.Equal)
	if len(others) > 0 && !slices.ContainsFunc(others, func(c *x509.Certificate) bool { return isIssuer(c, leaf) }) {
		return nil, brokenChain(leaf)
	}
	return leaf, nil
}

// OwnKeyType returns "ECDSA", "RSA" or "Ed25519", or "" for a key that
// crypto/tls cannot use.
func OwnKeyType(leaf *x509.Certificate) string {
	switch key := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if _, ok := AlgorithmOf(leaf); ok {
			return ECDSA.String()
		}
	case *rsa.PublicKey:
		if key.N.BitLen() >= minRSABits {
			return RSA.String()
		}
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return ""
}

// minRSABits is the smallest RSA key with which crypto/tls makes the signatures
// of TLS 1.3.
const minRSABits = 1024

// KeyID returns what a private key and its certificate have in common: an
// encoding of the public key, or "" for one of an unknown type.
func KeyID(public crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return ""
	}
	return string(der)
}

// Holder returns the KeyID of a certificate in DER, and whether it is that of a
// CA. The error is that of parsing it.
func Holder(der []byte) (keyID string, authority bool, err error) {
	c, err := parseCertificate(der)
	if err != nil {
		return "", false, err
	}
	return KeyID(c.PublicKey), c.IsCA, nil
}
