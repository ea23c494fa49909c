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

// RequestError is a request to the CA without a usable response: no connection,
// a time-out, a body that is too large, a redirect that cannot be followed. A
// CA's problem document is an *acme.Error instead.
type RequestError struct {
	Method   string        // HTTP method
	URL      string        // without user, query and fragment
	Endpoint Endpoint      // the CA's resource at this URL
	Timeout  time.Duration // the request's own time-out if that ended it, otherwise 0
	Err      error         // the cause, never nil
}

// Error returns one line that names the method and the URL.
func (e *RequestError) Error() string {
	if e.Timeout > 0 {
		return fmt.Sprintf("%s: CA %s did not answer within %s", e.Method, e.URL, e.Timeout)
	}
	return fmt.Sprintf("%s: CA %s: %v", e.Method, e.URL, e.Err)
}

// Unwrap returns the cause. It is context.DeadlineExceeded for the request's
// own time-out; check the caller's context to learn whether the attempt ended
// too.
func (e *RequestError) Unwrap() error { return e.Err }

// connection reports whether repeating the same GET or HEAD at once may help.
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

// bodyLimitError is a response longer than this number of bytes.
type bodyLimitError int64

func (limit bodyLimitError) Error() string {
	return fmt.Sprintf("the answer is larger than %d bytes: this may not be an ACME server, check the directory URL", int64(limit))
}

// redirectError is a redirect in response to a POST.
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

// displayURL returns u without its user, query and fragment, which may be
// secret.
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

// Cause returns the *RequestError within err, or else err itself, bounded:
// errors of x/crypto/acme hold as much of a response as the CA sent. net/http
// wraps each *RequestError in a *url.Error, which repeats the URL with its
// query. Call Cause before anyone else sees err.
func Cause(err error) error {
	var failed *RequestError
	if errors.As(err, &failed) {
		return failed
	}
	return boundError(err)
}

// Problem returns the CA's problem document within err, if there is one. It is
// errors.As for an *acme.Error.
func Problem(err error) (*acme.Error, bool) {
	var problem *acme.Error
	ok := errors.As(err, &problem)
	return problem, ok
}

// IsRateLimited reports whether the CA refused because of a rate limit: a 429
// or a problem of type rateLimited. RetryAfter reads the requested wait from
// the problem's Header.
func IsRateLimited(err error) bool {
	problem, ok := Problem(err)
	return ok && (problem.StatusCode == http.StatusTooManyRequests || kindOf(problem.ProblemType) == "ratelimited")
}

// kindOf returns the kind of a problem type, by the same rule as x/crypto/acme:
// what follows the last colon, in lower case. CAs differ in what precedes it.
// It is empty if the type is not a URI.
func kindOf(problemType string) string {
	i := strings.LastIndexByte(problemType, ':')
	if i < 0 {
		return ""
	}
	return strings.ToLower(problemType[i+1:])
}
