package acmeclient

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
)

// RenewalInfo is a CA's suggestion of when to renew a certificate (RFC 9773,
// section 4.2).
type RenewalInfo struct {
	Start, End     time.Time     // the window; Start is before End
	ExplanationURL string        // a page about the reason; usually empty
	RetryAfter     time.Duration // the wait before asking again; 0 if the CA does not say
}

// ErrNoRenewalInfo: the CA's directory has no renewalInfo.
var ErrNoRenewalInfo = errors.New("the CA offers no renewal information")

// errForgotten: Forget was called while the directory was being fetched.
var errForgotten = errors.New("the CA's directory is being fetched again")

// maxExplanation is the longest explanation URL that is kept, in bytes: one is
// stored for each certificate.
const maxExplanation = 1024

// CertID returns the identifier of a certificate in renewal information and in
// replaces: its authority key identifier and its serial number (RFC 9773,
// section 4.1). It is "" if the certificate has no authority key identifier:
// then the CA cannot be asked about it.
func CertID(leaf *x509.Certificate) string {
	if len(leaf.AuthorityKeyId) == 0 || leaf.SerialNumber == nil || leaf.SerialNumber.Sign() < 0 {
		return ""
	}
	serial := leaf.SerialNumber.Bytes()
	if leaf.SerialNumber.BitLen()%8 == 0 {
		serial = append([]byte{0}, serial...) // DER: a leading 1 bit would mean a negative number
	}
	return base64.RawURLEncoding.EncodeToString(leaf.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(serial)
}

// RenewalInfo asks the CA when to renew the certificate with this CertID. The
// request is not signed and needs no account. The error is ErrNoRenewalInfo, a
// *RequestError, an *acme.Error, or describes an invalid response.
func (ca *CA) RenewalInfo(ctx context.Context, certID string) (RenewalInfo, error) {
	if _, err := ca.Client(nil, "").Discover(ctx); err != nil {
		return RenewalInfo{}, Cause(err)
	}
	doc := ca.directory.current()
	if doc == nil {
		return RenewalInfo{}, errForgotten
	}
	if doc.RenewalInfo == "" {
		return RenewalInfo{}, ErrNoRenewalInfo
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(doc.RenewalInfo, "/")+"/"+certID, nil)
	if err != nil {
		return RenewalInfo{}, err
	}
	if ca.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", ca.cfg.UserAgent)
	}
	res, err := httpClient(ca, func() crypto.Signer { return nil }).Do(req)
	if err != nil {
		return RenewalInfo{}, Cause(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body) // bounded by the transport
	if err != nil {
		return RenewalInfo{}, err
	}
	if res.StatusCode != http.StatusOK {
		return RenewalInfo{}, problemOf(res, body)
	}
	info, err := parseRenewalInfo(body)
	if err != nil {
		return RenewalInfo{}, fmt.Errorf("renewal information at %s: %w", displayURL(req.URL), err)
	}
	info.RetryAfter, _ = RetryAfter(res.Header, time.Now())
	return info, nil
}

// offersRenewalInfo reports whether the cached directory has renewalInfo.
func (ca *CA) offersRenewalInfo() bool {
	doc := ca.directory.current()
	return doc != nil && doc.RenewalInfo != ""
}

func parseRenewalInfo(body []byte) (RenewalInfo, error) {
	var doc struct {
		SuggestedWindow struct{ Start, End time.Time }
		ExplanationURL  string
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return RenewalInfo{}, err
	}
	w := doc.SuggestedWindow
	if w.Start.IsZero() || !w.Start.Before(w.End) {
		return RenewalInfo{}, fmt.Errorf("the suggested window from %s to %s is invalid", w.Start.Format(time.RFC3339), w.End.Format(time.RFC3339))
	}
	return RenewalInfo{Start: w.Start, End: w.End, ExplanationURL: ExplanationURL(doc.ExplanationURL)}, nil
}

// ExplanationURL returns the URL if it is one of a web page, and otherwise "".
func ExplanationURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > maxExplanation || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.String()
}

// problemOf returns the CA's problem document as x/crypto/acme would.
func problemOf(res *http.Response, body []byte) error {
	e := &acme.Error{StatusCode: res.StatusCode, Header: res.Header}
	var doc struct{ Type, Detail string }
	if json.Unmarshal(body, &doc) == nil {
		e.ProblemType, e.Detail = doc.Type, doc.Detail
	}
	if e.Detail == "" {
		e.Detail = res.Status
	}
	return BoundProblem(e)
}

// IsTemporary reports whether a failure may soon be over: no usable response, a
// 5xx or a rate limit.
func IsTemporary(err error) bool {
	var failed *RequestError
	if errors.As(err, &failed) || errors.Is(err, context.DeadlineExceeded) || err == errForgotten {
		return true
	}
	problem, ok := Problem(err)
	return ok && (problem.StatusCode >= http.StatusInternalServerError || IsRateLimited(err))
}
