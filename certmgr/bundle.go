package certmgr

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/internal/text"
)

// A bundle is autocert's cache entry for a certificate: PEM blocks, first the
// private key (SEC 1 for ECDSA, PKCS #1 for RSA), then the chain, leaf first.

// maxBundle bounds what is parsed of an entry: chains are a few KB.
const maxBundle = 1 << 20

// encodeBundle returns the entry for a key and its chain.
func encodeBundle(key crypto.Signer, chain [][]byte) ([]byte, error) {
	var buf bytes.Buffer
	if err := encodeKey(&buf, key); err != nil {
		return nil, err
	}
	for _, der := range chain {
		if err := pem.Encode(&buf, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), nil
}

func encodeKey(buf *bytes.Buffer, key crypto.Signer) error {
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

// decodeBundle is the opposite of encodeBundle. It also reads PKCS #8 keys,
// as autocert does. It does not check that key and chain belong together.
func decodeBundle(data []byte) (crypto.Signer, [][]byte, error) {
	if len(data) > maxBundle {
		return nil, nil, fmt.Errorf("entry of %d bytes is too large", len(data))
	}
	key, rest, err := decodeKey(data)
	if err != nil {
		return nil, nil, err
	}
	var chain [][]byte
	for len(rest) > 0 {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return nil, nil, errors.New("entry is truncated or followed by something else")
		}
		chain = append(chain, block.Bytes)
	}
	if len(chain) == 0 {
		return nil, nil, errors.New("entry holds no certificate")
	}
	return key, chain, nil
}

// decodeKey reads the private key that an entry begins with.
func decodeKey(data []byte) (key crypto.Signer, rest []byte, err error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, nil, errors.New("no PEM block found")
	}
	if !strings.Contains(block.Type, "PRIVATE") {
		return nil, nil, fmt.Errorf("first PEM block is %q and not a private key", text.OneLine(block.Type, 64))
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

// checkPair parses a chain and checks that its leaf is for host, has the key
// type kt and belongs to key. Dates are the caller's business.
func checkPair(host string, kt keyType, key crypto.Signer, chain [][]byte) (*x509.Certificate, error) {
	certs, err := x509.ParseCertificates(slices.Concat(chain...))
	if err != nil {
		return nil, fmt.Errorf("certificate cannot be parsed: %w", err)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate found")
	}
	leaf := certs[0]
	if err := leaf.VerifyHostname(host); err != nil {
		return nil, fmt.Errorf("certificate is for another name: %s", text.OneLine(err.Error(), text.MaxError)) // an x509.HostnameError holds the certificate
	}
	pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("private key does not belong to the certificate")
	}
	if got, ok := keyTypeOf(leaf); !ok || got != kt {
		return nil, fmt.Errorf("certificate has a %s key, want %s", leaf.PublicKeyAlgorithm, kt)
	}
	return leaf, nil
}

// checkChain checks that each certificate of a chain signed the one before it.
func checkChain(chain [][]byte) error {
	certs, err := x509.ParseCertificates(slices.Concat(chain...))
	if err != nil {
		return err
	}
	for i := 1; i < len(certs); i++ {
		if err := certs[i-1].CheckSignatureFrom(certs[i]); err != nil {
			return fmt.Errorf("chain is broken: certificate %d (%s) was not signed by %d (%s): %w",
				i-1, certs[i-1].Subject, i, certs[i].Subject, err)
		}
	}
	return nil
}

func keyTypeOf(leaf *x509.Certificate) (keyType, bool) {
	switch leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return keyECDSA, true
	case *rsa.PublicKey:
		return keyRSA, true
	}
	return 0, false
}

// generateKey makes a certificate's key. It takes up to seconds for RSA.
func generateKey(kt keyType) (crypto.Signer, error) {
	if kt == keyRSA {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// expiredEntry is why a bundle that is sound otherwise is not used.
type expiredEntry struct{ notAfter time.Time }

func (e expiredEntry) Error() string { return "certificate expired at " + text.Stamp(e.notAfter) }

// certificateFromBundle returns the certificate of a cache entry if it can be
// served now. Any error means that the entry is as good as none.
func certificateFromBundle(sub subject, data []byte, now time.Time) (*certificate, error) {
	key, chain, err := decodeBundle(data)
	if err != nil {
		return nil, err
	}
	leaf, err := checkPair(sub.host(), sub.keyType, key, chain)
	if err != nil {
		return nil, err
	}
	if now.After(leaf.NotAfter) {
		return nil, expiredEntry{leaf.NotAfter}
	}
	return newCertificate(sub, key, chain, leaf), nil
}
