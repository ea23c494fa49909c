package acmeclient

import (
	"cmp"
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
	var unusable *unusableError
	switch {
	case e.Timeout > 0:
		return fmt.Sprintf("%s: CA %s did not answer within %s", e.Method, e.URL, e.Timeout)
	case errors.As(e.Err, &unusable):
		return fmt.Sprintf("%s: CA %s %v", e.Method, e.URL, e.Err)
	}
	return fmt.Sprintf("%s: CA %s: %v", e.Method, e.URL, e.Err)
}

// Unwrap returns the cause. It is context.DeadlineExceeded for the request's
// own time-out; check the caller's context to learn whether the attempt ended
// too.
func (e *RequestError) Unwrap() error { return e.Err }

// late reports whether the request ended because of a time-out.
func (e *RequestError) late() bool {
	var timeout net.Error
	return e.Timeout > 0 || errors.As(e.Err, &timeout) && timeout.Timeout()
}

// lasts reports whether repeating the same request soon cannot help.
func (e *RequestError) lasts() bool {
	var tooLarge *limitError
	var untrusted *tls.CertificateVerificationError
	var redirect redirectError
	var broken clientError
	var unusable *unusableError
	var notSent *notSentError
	switch {
	case e.Timeout == 0 && errors.Is(e.Err, context.DeadlineExceeded), errors.Is(e.Err, context.Canceled):
		return true // the attempt is over
	case errors.As(e.Err, &tooLarge), errors.As(e.Err, &untrusted), errors.As(e.Err, &redirect), errors.As(e.Err, &broken), errors.As(e.Err, &notSent):
		return true
	}
	return errors.As(e.Err, &unusable) && unusable.lasts
}

// unusableError is a response with a status of 2xx that cannot be what was
// asked for.
type unusableError struct {
	status  int
	what    string // it is, or lacks
	purpose purpose
	lasts   bool // a repetition would bring the same
}

func (e *unusableError) Error() string {
	if strings.HasPrefix(e.what, "no ") { // a field is missing
		return fmt.Sprintf("answered %d with %s", e.status, e.what)
	}
	return fmt.Sprintf("answered %d with %s, not with %s", e.status, e.what, e.purpose.noun())
}

// clientError is a failure of the user's HTTP client itself.
type clientError string

func (e clientError) Error() string { return string(e) }

// redirectError is a redirect that is not followed: of a POST, from https to
// another scheme, or to a URL that no request is sent to.
type redirectError struct {
	status  int
	target  string
	unsafe  bool  // the scheme of the target is not https
	refused error // why no request is sent there
}

func (e redirectError) Error() string {
	target := "another URL"
	if u, err := url.Parse(e.target); err == nil {
		target = displayURL(u)
	}
	if e.unsafe {
		return fmt.Sprintf("redirected (%d) from https to %s, which is not followed", e.status, target)
	}
	if e.refused != nil {
		return fmt.Sprintf("redirected (%d) to %s, which is not followed: %v", e.status, target, e.refused)
	}
	return fmt.Sprintf("redirected (%d) to %s: a signed request cannot follow a redirect, use the directory URL of the CA's final address",
		e.status, target)
}

// PlainURL returns a URL without its user, query and fragment, in bounded
// length, or "" if it is none.
func PlainURL(s string) string {
	if u, err := url.Parse(s); err == nil {
		return displayURL(u)
	}
	return ""
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
// query. A problem document is wrapped in an error that names the URL of the
// request. Call Cause before anyone else sees err.
func Cause(err error) error {
	var failed *RequestError
	if errors.As(err, &failed) {
		return failed
	}
	err = boundError(err)
	if problem, ok := err.(*acme.Error); ok {
		if u := takeURL(problem.Header); u != "" {
			return &refusalError{url: u, problem: problem}
		}
	}
	return err
}

// URL returns the URL of the CA's resource that failed with err: the last one
// that the tree of err names, without its query, or "".
func URL(err error) string {
	if e, ok := err.(interface{ FailedURL() string }); ok {
		return e.FailedURL()
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return URL(e.Unwrap())
	case interface{ Unwrap() []error }:
		last := ""
		for _, cause := range e.Unwrap() {
			last = cmp.Or(URL(cause), last)
		}
		return last
	}
	return ""
}

// FailedURL returns the URL of the request.
func (e *RequestError) FailedURL() string { return e.URL }

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

// ProblemKind returns the kind of a problem type, in lower case: what follows
// the last colon. It is empty if the type is not a URI.
func ProblemKind(problemType string) string { return kindOf(problemType) }

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
