package acmeclient

import (
	"context"
	"net/http"
)

type checkKey struct{}

// WithCheck returns a context whose requests are each preceded by a call of
// check. If that returns an error, the request is not sent, and its error wraps
// that one. check may be called concurrently and must not block.
func WithCheck(ctx context.Context, check func() error) context.Context {
	return context.WithValue(ctx, checkKey{}, check)
}

// checked returns the error of a request that must not be sent, or nil.
func checked(req *http.Request, e Endpoint) error {
	check, ok := req.Context().Value(checkKey{}).(func() error)
	if !ok {
		return nil
	}
	err := check()
	if err == nil {
		return nil
	}
	u := displayURL(req.URL)
	TraceOf(req.Context()).fail(e, u)
	return &RequestError{
		Method:   req.Method,
		URL:      u,
		Endpoint: e,
		Err:      &notSentError{err},
	}
}

// notSentError is the error of a request that was not sent. It lasts: the
// request is not repeated.
type notSentError struct{ cause error }

func (e *notSentError) Error() string { return "not sent: " + e.cause.Error() }
func (e *notSentError) Unwrap() error { return e.cause }
