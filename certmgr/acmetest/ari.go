package acmetest

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"time"
)

const (
	// renewalInfoRetryAfter is when clients should ask again, as at Let's
	// Encrypt.
	renewalInfoRetryAfter = 6 * time.Hour

	// shortLived is the lifetime below which renewal is suggested with a half
	// left and not a third, as at Let's Encrypt.
	shortLived = 10 * 24 * time.Hour

	revokedURL = "https://acmetest.invalid/revoked"
)

// RenewalWindow is when the CA wants a certificate to be renewed (RFC 9773,
// section 4.2).
type RenewalWindow struct {
	// Start and End delimit the window. If both are zero, the default applies.
	Start, End time.Time
	// ExplanationURL is a page that explains the window; empty means none.
	ExplanationURL string
}

// contains reports whether t is within the window, which includes its start but
// not its end.
func (w RenewalWindow) contains(t time.Time) bool { return !t.Before(w.Start) && t.Before(w.End) }

// SetRenewalWindow sets the window that the CA suggests for a certificate that
// it issued; the zero window restores the default. Any window may be set, even
// one that RFC 9773 forbids, such as an end before the start. It panics if the
// certificate was not issued here.
//
// The default is that of Let's Encrypt: centred where a third of the lifetime
// is left (half, if it is shorter than 10 days), and 2% of the lifetime wide.
// For a revoked certificate the window is in the past.
func (s *Server) SetRenewalWindow(leaf *x509.Certificate, w RenewalWindow) {
	s.mustBeUsable()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustHaveIssued(leaf).window = w
}

// CertID returns the identifier of a certificate in renewal information and in
// an order's "replaces" (RFC 9773, section 4.1). It is empty for a certificate
// without a serial number or an authority key identifier.
func CertID(leaf *x509.Certificate) string {
	if leaf.SerialNumber == nil || len(leaf.AuthorityKeyId) == 0 {
		return ""
	}
	return base64url.EncodeToString(leaf.AuthorityKeyId) + "." + base64url.EncodeToString(serialBytes(leaf.SerialNumber))
}

// serialBytes returns the content of the DER encoding of a non-negative serial
// number. A leading zero byte keeps one with a high first bit from being read
// as negative.
func serialBytes(serial *big.Int) []byte {
	b := serial.Bytes()
	if serial.BitLen()%8 == 0 {
		b = append([]byte{0}, b...)
	}
	return b
}

// checkCertID checks the form of an identifier, whether or not such a
// certificate exists.
func checkCertID(id string) *Problem {
	aki, serial, ok := strings.Cut(id, ".")
	if !ok {
		return problemf("malformed", "the certificate's identifier %q is not two parts with a dot between them", id)
	}
	for _, part := range []string{aki, serial} {
		if b, err := decode64(part); err != nil || len(b) == 0 {
			return problemf("malformed", "the part %q of the certificate's identifier is not base64url without padding", part)
		}
	}
	b, _ := decode64(serial)
	if !bytes.Equal(b, serialBytes(new(big.Int).SetBytes(b))) {
		return problemf("malformed",
			"the serial number %x in the certificate's identifier is not as in DER (which adds 00 before a high first bit)", b)
	}
	return nil
}

// certificateWith returns the certificate with the given identifier. s.mu is
// held.
func (s *Server) certificateWith(certID string) (*certificate, *Problem) {
	if problem := checkCertID(certID); problem != nil {
		return nil, problem
	}
	if c := s.state.certificateByID[certID]; c != nil {
		return c, nil
	}
	return nil, notFound("there is no certificate with the identifier %q", certID)
}

// certID returns the identifier in the path of a request for renewal
// information.
func (x *exchange) certID() string { return strings.TrimPrefix(x.r.URL.Path, pathRenewalInfo) }

// renewalInfo tells when a certificate should be renewed (RFC 9773, section 4).
// The request is not signed.
func (s *Server) renewalInfo(x *exchange) (*reply, *Problem) {
	if s.NoRenewalInfo {
		return nil, notFound("there is no renewal information")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, problem := s.certificateWith(x.certID())
	if problem != nil {
		return nil, problem
	}
	w := c.suggestedWindow()
	object := map[string]any{"suggestedWindow": map[string]string{
		// Not by encoding/json, which refuses years that a test may want.
		"start": w.Start.UTC().Format(time.RFC3339Nano),
		"end":   w.End.UTC().Format(time.RFC3339Nano),
	}}
	if w.ExplanationURL != "" {
		object["explanationURL"] = w.ExplanationURL
	}
	return &reply{status: http.StatusOK, retryAfter: renewalInfoRetryAfter, json: object}, nil
}

// suggestedWindow returns the current window of the certificate. Server.mu is
// held.
func (c *certificate) suggestedWindow() RenewalWindow {
	w := c.window
	if !w.Start.IsZero() || !w.End.IsZero() {
		return w
	}
	if c.revoked {
		// It must be the same for every request: a client keeps the time that
		// it picked while the window does not change.
		w.Start, w.End = c.revokedAt.Add(-time.Hour), c.revokedAt.Add(-30*time.Minute)
		if w.ExplanationURL == "" {
			w.ExplanationURL = revokedURL
		}
		return w
	}
	lifetime := c.leaf.NotAfter.Add(time.Second).Sub(c.leaf.NotBefore) // both ends are included
	left := lifetime / 3
	if lifetime < shortLived {
		left = lifetime / 2
	}
	middle := c.leaf.NotAfter.Add(-left)
	w.Start, w.End = middle.Add(-lifetime/100), middle.Add(lifetime/100)
	return w
}

// mustHaveIssued returns the certificate with this leaf. s.mu is held.
func (s *Server) mustHaveIssued(leaf *x509.Certificate) *certificate {
	c := s.certificateByDER(leaf.Raw)
	if c == nil {
		panic(fmt.Sprintf("acmetest: the certificate for %v was not issued here", leaf.DNSNames))
	}
	return c
}
