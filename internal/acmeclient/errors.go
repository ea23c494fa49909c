package acmeclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
)

// RequestError is a request to the CA that got no usable answer: no connection, a
// time-out, a body that is too large, a redirect that cannot be followed. A CA
// that answers with a problem is an *acme.Error instead.
type RequestError struct {
	Method   string        // of HTTP
	URL      string        // that was asked, without user, query and fragment
	Endpoint Endpoint      // which resource of the CA the URL is
	Timeout  time.Duration // the request's own time-out if that ended it, else 0
	Err      error         // the cause, never nil
}

// Error is one line that names the method and the URL.
func (e *RequestError) Error() string {
	if e.Timeout > 0 {
		return fmt.Sprintf("%s: CA %s did not answer within %s", e.Method, e.URL, e.Timeout)
	}
	return fmt.Sprintf("%s: CA %s: %v", e.Method, e.URL, e.Err)
}

// Unwrap returns the cause. It is context.DeadlineExceeded for the request's own
// time-out; the Err of the caller's context tells whether the attempt ended too.
func (e *RequestError) Unwrap() error { return e.Err }

// connection reports whether sending the same GET or HEAD again at once may help.
func (e *RequestError) connection() bool {
	var timeout net.Error
	var tooLarge bodyLimitError
	var untrusted *tls.CertificateVerificationError
	switch {
	case e.Timeout > 0, errors.Is(e.Err, context.Canceled), errors.As(e.Err, &tooLarge), errors.As(e.Err, &untrusted):
		return false
	case errors.As(e.Err, &timeout) && timeout.Timeout():
		return false
	}
	return true
}

// bodyLimitError is an answer longer than this number of bytes.
type bodyLimitError int64

func (limit bodyLimitError) Error() string {
	return fmt.Sprintf("the answer is larger than %d bytes: this may not be an ACME server, check the directory URL", int64(limit))
}

// redirectError is the answer to a POST that points elsewhere.
type redirectError struct {
	status int
	target string
}

func (e redirectError) Error() string {
	target := "another URL"
	if u, err := url.Parse(e.target); err == nil {
		target = displayURL(u)
	}
	return fmt.Sprintf("redirected (%d) to %s: a signed request cannot follow, use the directory URL of the CA's final address",
		e.status, target)
}

// displayURL is u without what may be secret: user, query and fragment.
func displayURL(u *url.URL) string {
	plain := url.URL{
		Scheme:  u.Scheme,
		Host:    u.Host,
		Path:    u.Path,
		RawPath: u.RawPath,
		Opaque:  u.Opaque,
	}
	return cut(plain.String(), maxDisplayURL)
}

// Cause returns the *RequestError within err, or else err itself, bounded: what
// x/crypto/acme returns holds as much of an answer as the CA sent. net/http wraps
// each *RequestError in a *url.Error, which repeats the URL and shows its query. It
// is to be called before others see err.
func Cause(err error) error {
	var failed *RequestError
	if errors.As(err, &failed) {
		return failed
	}
	return boundError(err)
}

// Problem returns the CA's answer within err if that is what failed. It is
// errors.As for an *acme.Error.
func Problem(err error) (*acme.Error, bool) {
	var problem *acme.Error
	ok := errors.As(err, &problem)
	return problem, ok
}

// IsRateLimited reports whether the CA refused because of a rate limit: a 429 or a
// problem of type rateLimited. The wait that it asks for, sane already, is found by
// RetryAfter in the problem's Header.
func IsRateLimited(err error) bool {
	problem, ok := Problem(err)
	return ok && (problem.StatusCode == http.StatusTooManyRequests || kindOf(problem.ProblemType) == "ratelimited")
}

// kindOf returns which kind of problem a type names, by the same rule as
// x/crypto/acme: what follows the last colon, in lower case. CAs differ in what is
// before it. It is empty for what is no URI.
func kindOf(problemType string) string {
	i := strings.LastIndexByte(problemType, ':')
	if i < 0 {
		return ""
	}
	return strings.ToLower(problemType[i+1:])
}
