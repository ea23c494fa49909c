package certmgr

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/text"
)

// SelfSigned returns a new self-signed certificate for Manager.Fallback. Clients
// do not trust it. It has the name fallback.invalid, a key on P-256 that is only
// in memory, and is valid for 50 years, so that no clock that is wrong matters.
// It panics if the certificate cannot be made, which does not happen.
func SelfSigned() *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("certmgr: SelfSigned: " + err.Error())
	}
	serial := new(big.Int).SetBytes([]byte(rand.Text()[:16]))
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "no certificate yet"},
		DNSNames:              []string{"fallback.invalid"},
		NotBefore:             now.AddDate(-25, 0, 0),
		NotAfter:              now.AddDate(25, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		panic("certmgr: SelfSigned: " + err.Error())
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// fallback is a Manager.Fallback that can be served; immutable. Nil means none.
type fallback struct{ cert *tls.Certificate }

// newFallback checks a Manager.Fallback. The error wraps ErrBadSetting.
func newFallback(cert *tls.Certificate, now time.Time) (*fallback, error) {
	if cert == nil {
		return nil, nil
	}
	key, err := ownKey(cert)
	var leaf *x509.Certificate
	if err == nil {
		leaf, err = bundle.CheckOwn(key, cert.Certificate)
	}
	if err == nil && now.After(leaf.NotAfter) {
		err = fmt.Errorf("the certificate expired at %s", text.Stamp(leaf.NotAfter))
	}
	if err != nil {
		return nil, &refusal{kind: ErrBadSetting, text: "Manager.Fallback is not served; set another certificate, or SelfSigned()", cause: err}
	}
	copied := *cert
	chain := slices.Clone(cert.Certificate)
	copied.Certificate, copied.Leaf = chain[:len(chain):len(chain)], leaf
	return &fallback{&copied}, nil
}

// warning says that the fallback has expired, or is "".
func (f *fallback) warning(now time.Time) string {
	if f == nil || f.isValid(now) {
		return ""
	}
	return "Manager.Fallback expired at " + text.Stamp(f.cert.Leaf.NotAfter) + " and is not served any more; set another certificate, or SelfSigned()"
}

func (f *fallback) isValid(now time.Time) bool { return f != nil && !now.After(f.cert.Leaf.NotAfter) }

// copy returns the copy for a caller of GetCertificate.
func (f *fallback) copy() *tls.Certificate {
	cert := *f.cert
	return &cert
}

// fallbackFor is how long after its fallback was last served for a host a
// session of the host may be one under the fallback: a client that takes longer
// for a handshake has left.
const fallbackFor = 10 * time.Minute

// ticketsFor is how long a client may resume a session (RFC 8446, 4.6.1).
const ticketsFor = 7 * 24 * time.Hour

// serveFallback serves the fallback in place of an error.
func serveFallback(s *server, hello *tls.ClientHelloInfo, host string, why error) *tls.Certificate {
	now := s.now()
	noteFallback(s.visits, host, now)
	s.handshakes.refuse(resFallback, host, inFull(why), hello, now)
	return s.settings.fallback.copy()
}

// noteFallback records that the fallback was served for a host.
func noteFallback(v *visits, host string, now time.Time) {
	if known := v.hosts.Get(host); known != nil {
		known.fallback.Store(now.Unix())
	}
}

// hadFallback reports whether the fallback was served for a host less than d
// ago.
func hadFallback(v *visits, host string, d time.Duration, now time.Time) bool {
	known := v.hosts.Get(host)
	if known == nil {
		return false
	}
	at := known.fallback.Load()
	return at != 0 && now.Unix()-at < int64(d/time.Second)
}
