package bundle

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Limits on what is parsed. A cache or a CA may send anything, and handshakes
// wait for it. Each limit is checked before the work that it bounds, and is well
// above what is in use.
const (
	// MaxSize is the largest entry that is read, in bytes. Chains have a few
	// KB.
	MaxSize = 128 << 10

	// MaxChain is the largest number of certificates in a chain. Real ones have
	// two to four.
	MaxChain = 16

	// maxCertificate is the largest certificate, in bytes of DER: 100 names of
	// the greatest length fit.
	maxCertificate = 32 << 10

	// maxChainSize is the largest chain, in bytes of DER: as PEM, with the largest
	// key, it is not larger than MaxSize, so what is stored can be read.
	maxChainSize = 80 << 10

	// maxPrivateKey is the largest private key, in bytes of DER. RSA with
	// maxRSABits takes 4.7 KB.
	maxPrivateKey = 8 << 10

	// maxRSABits is the largest RSA key: TLS clients and crypto/tls accept no
	// larger one, and its cost grows with the third power.
	maxRSABits = 8192
)

// checkSize returns an error if an entry is too large to be read.
func checkSize(data []byte) error {
	if len(data) > MaxSize {
		return fmt.Errorf("entry of %d bytes is too large: the limit is %d", len(data), MaxSize)
	}
	return nil
}

// checkPrivateKey returns an error if a private key in DER (PKCS #1, PKCS #8 or
// SEC 1) is too large to be parsed, which validates it.
func checkPrivateKey(der []byte) error {
	if len(der) > maxPrivateKey {
		return fmt.Errorf("private key of %d bytes is too large: the limit is %d", len(der), maxPrivateKey)
	}
	if bits := largestInteger(der); bits > maxRSABits {
		return fmt.Errorf("private key has a number of %d bits: the limit for RSA is %d", bits, maxRSABits)
	}
	return nil
}

// largestInteger returns the size, in bits, of the largest integer of an RSA
// key, whose form need not be valid.
func largestInteger(der []byte) int {
	outer := cryptobyte.String(der)
	var key cryptobyte.String
	if !outer.ReadASN1(&key, asn1.SEQUENCE) {
		return 0
	}
	largest := 0
	for !key.Empty() {
		var element cryptobyte.String
		var tag asn1.Tag
		if !key.ReadAnyASN1(&element, &tag) {
			break
		}
		switch tag {
		case asn1.INTEGER:
			for len(element) > 0 && element[0] == 0 {
				element = element[1:]
			}
			largest = max(largest, 8*len(element))
		case asn1.OCTET_STRING: // PKCS #8: the key itself
			var n cryptobyte.String
			if inner := element; inner.ReadASN1(&n, asn1.SEQUENCE) {
				largest = max(largest, largestInteger(element))
			}
		}
	}
	return largest
}

// parseCertificate parses one certificate in DER. The result keeps der.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, fmt.Errorf("certificate of %d bytes is too large: the limit is %d", len(der), maxCertificate)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate cannot be parsed: %w", err)
	}
	if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
		return nil, fmt.Errorf("certificate has an RSA key of %d bits: the limit is %d", key.N.BitLen(), maxRSABits)
	}
	return c, nil
}

// parseChain parses a chain, each element of which is one certificate.
func parseChain(chain [][]byte) ([]*x509.Certificate, error) {
	switch {
	case len(chain) == 0:
		return nil, errors.New("no certificate found")
	case len(chain) > MaxChain:
		return nil, tooLong(len(chain))
	}
	size := 0
	for _, der := range chain {
		size += len(der)
	}
	if size > maxChainSize {
		return nil, fmt.Errorf("chain of %d bytes is too large: the limit is %d", size, maxChainSize)
	}
	certs := make([]*x509.Certificate, 0, len(chain))
	for _, der := range chain {
		c, err := parseCertificate(der)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	return certs, nil
}

func tooLong(n int) error {
	return fmt.Errorf("chain has %d certificates or more: the limit is %d", n, MaxChain)
}
