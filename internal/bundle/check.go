package bundle

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/nostall/nostall/internal/text"
)

// ErrOtherKey is the error of a certificate that is for another private key.
var ErrOtherKey = errors.New("private key does not belong to the certificate")

// Check parses a chain and checks that its leaf is for host, has the key type
// kt and belongs to key. It does not check dates.
func Check(host string, kt KeyType, key crypto.Signer, chain [][]byte) (*x509.Certificate, error) {
	certs, err := x509.ParseCertificates(slices.Concat(chain...))
	if err != nil {
		return nil, fmt.Errorf("certificate cannot be parsed: %w", err)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate found")
	}
	leaf := certs[0]
	if err := leaf.VerifyHostname(host); err != nil {
		return nil, fmt.Errorf("certificate is for another name: %s", text.OneLine(err.Error(), text.MaxError)) // not %w: an x509.HostnameError holds the certificate
	}
	if !isFor(leaf, key) {
		return nil, ErrOtherKey
	}
	if got, ok := TypeOf(leaf); !ok || got != kt {
		return nil, fmt.Errorf("certificate has a %s key, want %s", leaf.PublicKeyAlgorithm, kt)
	}
	return leaf, nil
}
