package bundle

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"errors"
	"slices"
)

// Arrange returns a chain that a CA sent in the order in which it is served:
// the certificate for key first, then as far as possible each certifying the
// one before it, and then further ways to other roots. CAs send certificates
// twice, leaf last, or with roots that certify each other. Duplicates are left
// out, and what certifies nothing in the chain, unless nothing certifies the
// leaf. That is an error: the chain is another certificate's. A leaf alone is
// no error.
func Arrange(key crypto.Signer, sent [][]byte) ([][]byte, error) {
	if len(sent) > MaxChain {
		return nil, tooLong(len(sent))
	}
	pool, err := parseSent(sent)
	leaf := slices.IndexFunc(pool, func(c *x509.Certificate) bool { return isFor(c, key) })
	switch {
	case leaf < 0 && err != nil:
		return nil, err
	case len(pool) == 0:
		return nil, errors.New("no certificate found")
	case leaf < 0:
		leaf = 0 // Check says what is wrong with it
	}
	chain := []*x509.Certificate{pool[leaf]}
	pool = slices.Delete(pool, leaf, leaf+1)
	// take moves what certifies one of those in below to the chain.
	take := func(below []*x509.Certificate) bool {
		i := slices.IndexFunc(pool, func(parent *x509.Certificate) bool {
			return slices.ContainsFunc(below, func(child *x509.Certificate) bool { return certifies(parent, child) })
		})
		if i < 0 {
			return false
		}
		chain = append(chain, pool[i])
		pool = slices.Delete(pool, i, i+1)
		return true
	}
	for take(chain[len(chain)-1:]) || take(chain) {
	}
	if len(chain) == 1 && (len(pool) > 0 || err != nil) {
		return nil, brokenChain(chain[0])
	}
	var arranged [][]byte
	for _, c := range chain {
		arranged = append(arranged, c.Raw)
	}
	return arranged, nil
}

// parseSent returns the certificates that can be parsed, each once, and the
// first error.
func parseSent(sent [][]byte) (pool []*x509.Certificate, failed error) {
	for _, der := range sent {
		c, err := parseCertificate(der)
		failed = cmp.Or(failed, err)
		if err == nil && !slices.ContainsFunc(pool, c.Equal) {
			pool = append(pool, c)
		}
	}
	return pool, failed
}

// certifies reports whether parent signed child. A signature by an algorithm
// that cannot be checked, such as one with SHA-1, counts by the names.
func certifies(parent, child *x509.Certificate) bool {
	err := child.CheckSignatureFrom(parent)
	_, insecure := errors.AsType[x509.InsecureAlgorithmError](err)
	if insecure || errors.Is(err, x509.ErrUnsupportedAlgorithm) {
		return bytes.Equal(child.RawIssuer, parent.RawSubject)
	}
	return err == nil
}

// isFor reports whether the certificate is for a private key.
func isFor(c *x509.Certificate, key crypto.Signer) bool {
	pub, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(key.Public())
}
