package certmgr

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/renewal"
	"github.com/nostall/nostall/internal/text"
)

// served is the part of a certificate that the hot path reads: it fits a cache
// line, and hostEntry holds a copy.
type served struct {
	chain   [][]byte // capped, see copy
	key     crypto.Signer
	leaf    *x509.Certificate
	expires int64 // notAfter in Unix seconds, its full precision
	alg     bundle.Algorithm
	class   keyClasses // of its key
}

// certificate is a certificate in memory; immutable.
type certificate struct {
	served
	notAfter  time.Time
	notBefore time.Time
	issued    time.Time // by the CA's clock; notBefore if that is not known
	subject   subject
	here      bool   // issued by this process, and so under its settings
	entry     string // its key in the Cache
}

func newCertificate(sub subject, key crypto.Signer, chain [][]byte, leaf *x509.Certificate) *certificate {
	return &certificate{
		served: served{
			chain:   chain[:len(chain):len(chain)],
			key:     key,
			leaf:    leaf,
			expires: leaf.NotAfter.Unix(),
			alg:     sub.alg,
			class:   classOf(leaf.PublicKey),
		},
		notAfter:  leaf.NotAfter,
		notBefore: leaf.NotBefore,
		issued:    leaf.NotBefore,
		subject:   sub,
		entry:     sub.cacheKey(),
	}
}

// certificateFromBundle returns the certificate of a cache entry if it can be
// served now. On any error the entry counts as missing.
func certificateFromBundle(sub subject, data []byte, now time.Time) (*certificate, error) {
	if len(data) == 0 {
		return nil, errEmptyEntry
	}
	key, chain, err := bundle.Decode(data)
	if err != nil {
		return nil, err
	}
	leaf, err := bundle.Check(sub.names(), sub.alg, key, chain)
	if err != nil {
		return nil, err
	}
	if now.After(leaf.NotAfter) {
		return nil, expiredEntry{leaf.NotAfter}
	}
	return newCertificate(sub, key, chain, leaf), nil
}

// expiredEntry is the error of a bundle that is valid but expired.
type expiredEntry struct{ notAfter time.Time }

func (e expiredEntry) Error() string { return "certificate expired at " + text.Stamp(e.notAfter) }

// dates returns when to renew the certificate by: how far a CA backdates it does
// not matter.
func (c *certificate) dates() renewal.Dates {
	return renewal.Dates{NotBefore: c.issued, NotAfter: c.notAfter}
}

// copy returns the copy for a caller of GetCertificate. Programs append to the
// chain; its capacity is clipped, so that ours does not change.
func (c *served) copy() *tls.Certificate {
	return &tls.Certificate{Certificate: c.chain, PrivateKey: c.key, Leaf: c.leaf}
}

// usable reports whether the certificate can be served. One that is not valid
// yet can: the CA dates it, so the local clock is behind, and clients use their
// own.
func (c *served) usable(now time.Time) bool {
	s := now.Unix()
	return s < c.expires || s == c.expires && now.Nanosecond() == 0
}

// certEvent returns an event about a certificate.
func certEvent(kind audit.Kind, c *certificate) audit.Event {
	return audit.Event{
		Kind:     kind,
		Host:     c.subject.host(),
		Names:    others(c.subject.host(), c.hosts()),
		KeyType:  c.subject.alg.String(),
		CA:       c.subject.ca,
		Serial:   serialOf(c.leaf),
		NotAfter: c.notAfter,
	}
}

// serialOf returns a certificate's serial number in hexadecimal, as tools print
// it.
func serialOf(leaf *x509.Certificate) string {
	if leaf.SerialNumber == nil {
		return ""
	}
	return hex.EncodeToString(leaf.SerialNumber.Bytes())
}
