package bundle

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/nostall/nostall/internal/text"
)

// ErrOtherKey is the error of a certificate that is for another private key.
var ErrOtherKey = errors.New("private key does not belong to the certificate")

// Check parses a chain and checks that its leaf is for names, is of the algorithm
// alg and belongs to key, that TLS clients can accept it, and that another
// certificate of the chain, if there is one, is its issuer's. It does not check
// dates.
func Check(names []string, alg Algorithm, key crypto.Signer, chain [][]byte) (*x509.Certificate, error) {
	certs, err := parseChain(chain)
	if err != nil {
		return nil, err
	}
	leaf := certs[0]
	for _, name := range names {
		if err := leaf.VerifyHostname(name); err != nil {
			return nil, fmt.Errorf("certificate is for another name: %s", text.OneLine(err.Error(), text.MaxError)) // not %w: an x509.HostnameError holds the certificate
		}
	}
	if !isFor(leaf, key) {
		return nil, ErrOtherKey
	}
	if got, ok := AlgorithmOf(leaf); !ok || got != alg {
		return nil, fmt.Errorf("certificate has a %s key, want %s", leaf.PublicKeyAlgorithm, alg)
	}
	if err := checkUse(leaf); err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(slices.Clone(certs[1:]), leaf.Equal)
	if len(others) > 0 && !slices.ContainsFunc(others, func(c *x509.Certificate) bool { return isIssuer(c, leaf) }) {
		return nil, brokenChain(leaf)
	}
	return leaf, nil
}

// CheckKey parses one certificate and checks that it belongs to key.
func CheckKey(key crypto.Signer, der []byte) (*x509.Certificate, error) {
	c, err := parseCertificate(der)
	if err == nil && !isFor(c, key) {
		err = ErrOtherKey
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// checkUse returns why TLS clients would not accept a certificate as a server's,
// whatever its chain, or nil.
func checkUse(leaf *x509.Certificate) error {
	anyUse := len(leaf.ExtKeyUsage) == 0 && len(leaf.UnknownExtKeyUsage) == 0
	switch {
	case leaf.IsCA:
		return errors.New("certificate is that of a CA and not of a server: its basic constraints say CA")
	case !anyUse && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return errors.New("certificate is not for servers: its extended key usage lacks serverAuth")
	case len(leaf.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("certificate has a critical extension that clients do not know, %.64s", leaf.UnhandledCriticalExtensions[0].String())
	}
	return nil
}

// isIssuer reports whether parent is the certificate of child's issuer, by the
// name: who can write to the cache needs no forged signature. CAs that write
// their name in two ways are recognized by their signature.
func isIssuer(parent, child *x509.Certificate) bool {
	return bytes.Equal(child.RawIssuer, parent.RawSubject) || certifies(parent, child)
}

func brokenChain(leaf *x509.Certificate) error {
	return fmt.Errorf("chain is broken: none of its other certificates is from the issuer of the first, %s",
		text.OneLine(leaf.Issuer.String(), maxIssuer))
}

// maxIssuer is the length of an issuer's name in an error, in bytes.
const maxIssuer = 200

// LacksIssuer reports whether a chain is a leaf alone that needs the certificate
// of its issuer as the chain before did: few clients find it elsewhere. A leaf
// that is self-signed, or from a root, needs none.
func LacksIssuer(chain, before [][]byte) bool {
	if len(chain) != 1 || len(before) < 2 {
		return false
	}
	leaf, err := parseCertificate(chain[0])
	if err != nil || isSelfIssued(leaf) {
		return false
	}
	issuer, err := parseCertificate(before[1])
	return err == nil && !isSelfIssued(issuer)
}

func isSelfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }
