// Package bundle reads, writes and checks autocert's cache entry for a
// certificate: PEM blocks, first the private key (SEC 1 for ECDSA, PKCS #1 for
// RSA), then the chain, leaf first. A private key that cannot be exported has its
// public key in its place, which autocert does not know. The package may know
// keys, PEM and X.509. It does no I/O, and knows neither cache keys nor who serves
// a certificate.
//
// [Check] says what is accepted as a certificate, from a cache and from a CA.
// What no client would accept is refused, although autocert serves it: a
// certificate that is not for servers, that of a CA, one with a critical
// extension that is not known, a chain that has nothing to do with it, several
// certificates in one block, keys that crypto/tls cannot use. What autocert
// serves without harm is accepted: a leaf alone, certificates in any order
// after the leaf, twice, or with the root, more names, wildcards, no extended
// key usage at all, a self-signed certificate, PKCS #8 keys, RSA up to 8,192
// bits, line ends of any kind. Unlike autocert it knows no dates: its callers
// do.
package bundle

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/nostall/nostall/internal/text"
)

// Encode returns the entry for a key and its chain. If the key is not exportable,
// the entry has the public key.
func Encode(key crypto.Signer, chain [][]byte) ([]byte, error) {
	var buf bytes.Buffer
	if err := EncodeSigner(&buf, key); err != nil {
		return nil, err
	}
	for _, der := range chain {
		if err := pem.Encode(&buf, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), nil
}

// EncodeKey writes the PEM block of a private key: SEC 1 for ECDSA, PKCS #1 for
// RSA.
func EncodeKey(buf *bytes.Buffer, key crypto.Signer) error {
	block := new(pem.Block)
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return err
		}
		block.Type, block.Bytes = "EC PRIVATE KEY", der
	case *rsa.PrivateKey:
		block.Type, block.Bytes = "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)
	default:
		return fmt.Errorf("private keys of type %T cannot be stored", key)
	}
	return pem.Encode(buf, block)
}

// Decode parses what Encode wrote, within the limits of this package. A public key
// is a *PublicOnly. Like autocert it also reads PKCS #8 keys. It does not check that key and chain
// belong together, nor what the chain holds.
func Decode(data []byte) (crypto.Signer, [][]byte, error) {
	key, rest, err := DecodeSigner(data)
	if err != nil {
		return nil, nil, err
	}
	var chain [][]byte
	for len(rest) > 0 {
		if len(chain) == MaxChain {
			return nil, nil, tooLong(MaxChain + 1)
		}
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return nil, nil, errors.New("entry is truncated or has trailing data")
		}
		chain = append(chain, block.Bytes)
	}
	if len(chain) == 0 {
		return nil, nil, errors.New("entry holds no certificate")
	}
	return key, chain, nil
}

// DecodeKey parses the private key at the start of an entry, and returns the
// rest of the entry. No error reveals any of the key.
func DecodeKey(data []byte) (key crypto.Signer, rest []byte, err error) {
	if err := checkSize(data); err != nil {
		return nil, nil, err
	}
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, nil, errors.New("no PEM block found")
	}
	if !strings.Contains(block.Type, "PRIVATE") {
		return nil, nil, fmt.Errorf("first PEM block is %q and not a private key", text.OneLine(block.Type, 64))
	}
	if err := checkPrivateKey(block.Bytes); err != nil {
		return nil, nil, err
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, rest, nil
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, rest, nil
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		switch key := key.(type) {
		case *rsa.PrivateKey:
			return key, rest, nil
		case *ecdsa.PrivateKey:
			return key, rest, nil
		}
		return nil, nil, fmt.Errorf("private keys of type %T are not supported", key)
	}
	// The parsers' own errors could quote the key.
	return nil, nil, errors.New("private key cannot be parsed")
}
