package acmeclient

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/nostall/nostall/internal/flight"
)

// maxRedirects is net/http's default.
const maxRedirects = 10

// reply is the outcome of one request: an error, or a response with its whole
// body. Both are set if the body could not be read.
type reply struct {
	res  *http.Response
	body []byte
	err  error
}

// exchange sends one request and returns the response with its body in memory,
// its own header and a sane Retry-After. It returns when the request's time-out
// or context ends, even if the user's client does not.
func (t *transport) exchange(req *http.Request, p purpose, e Endpoint) (*http.Response, error) {
	timeout := p.timeout()
	ctx, cancel := context.WithTimeout(req.Context(), timeout)
	defer cancel()
	out, err := outgoing(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := checked(req, e); err != nil {
		return nil, err
	}
	call, err := t.ca.calls.begin()
	if err != nil {
		return nil, err
	}
	trace := TraceOf(req.Context())
	trace.sent()

	done := make(chan reply, 1) // buffered: the caller may have left
	go func() {
		defer call.end()
		t.send(out, done)
	}()
	var r reply
	select {
	case r = <-done:
	case <-ctx.Done():
		r.err = ctx.Err()
		select { // a response that came just in time counts
		case r = <-done:
		default:
			call.giveUp()
		}
	}

	t.ca.counts.add(e, r.res)
	if r.res != nil {
		r.res = r.detached(req.URL)
		t.ca.skew.note(r.res.Header, t.ca.cfg.Now())
		trace.received(e, displayURL(req.URL), r.res)
	}
	if err := r.failure(ctx, req, e, timeout); err != nil {
		trace.fail(e, err.URL)
		return nil, err
	}
	return r.res, nil
}

// outgoing copies req for a client that may still hold it after exchange has
// returned. Request bodies are small and in memory already.
func outgoing(ctx context.Context, req *http.Request) (*http.Request, error) {
	out := req.Clone(ctx)
	if req.Body == nil || req.Body == http.NoBody {
		return out, nil
	}
	body, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	out.Body, _ = out.GetBody()
	return out, nil
}

// send runs the user's client in its own goroutine. It must contain panics,
// which would end the process.
func (t *transport) send(req *http.Request, done chan<- reply) {
	r := reply{err: clientError("the HTTP client ended its goroutine without an answer")}
	defer func() {
		p := recover()
		if p != nil {
			r = reply{err: clientError(cut(fmt.Sprintf("the HTTP client panicked: %v", p), maxErrorText))}
		}
		if _, died := r.err.(clientError); died && t.ca.cfg.OnDeath != nil {
			t.ca.cfg.OnDeath(flight.NewDeath("Client.HTTPClient", p))
		}
		done <- r
	}()
	r = t.fetch(req)
}

// fetch sends req.
func (t *transport) fetch(req *http.Request) reply {
	client := t.ca.client()
	client.CheckRedirect = t.ca.redirectPolicy(client.CheckRedirect)
	res, err := client.Do(req)
	if err != nil {
		if wrapped, ok := err.(*url.Error); ok {
			err = wrapped.Err // RequestError names the URL, without its query
		}
		return reply{err: boundError(err)}
	}
	defer res.Body.Close()
	body, err := readBody(req.Context(), res, t.ca.cfg.BodyLimit)
	if err == nil {
		err = checkShape(body)
	}
	if err != nil {
		body = nil
	}
	if err != nil && res.StatusCode >= 400 {
		err = nil // a refusal counts without its text: users' transports read and close bodies
	}
	return reply{res: res, body: body, err: boundError(err)}
}

// redirectPolicy applies the user's policy, or net/http's default, to GET and
// HEAD, except that none leads where no request is sent to. It stops at the
// redirect of a POST: following it would change the method or send a signature
// for another URL.
func (ca *CA) redirectPolicy(user func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		switch {
		case via[0].Method == http.MethodPost:
			return http.ErrUseLastResponse
		case via[0].URL.Scheme == "https" && req.URL.Scheme != "https":
			return redirectError{status: req.Response.StatusCode, target: req.URL.String(), unsafe: true}
		}
		if err := ca.refuse(req.URL); err != nil {
			return redirectError{status: req.Response.StatusCode, target: req.URL.String(), refused: err}
		}
		ca.origins.note(req.URL)
		switch {
		case user != nil:
			return user(req, via)
		case len(via) >= maxRedirects:
			return fmt.Errorf("stopped after %d redirects", maxRedirects)
		}
		return nil
	}
}

// readBody reads at most limit bytes. It stops when the context ends, even if
// the body ignores it between reads.
func readBody(ctx context.Context, res *http.Response, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(contextReader{ctx, res.Body}, limit+1))
	if int64(len(body)) > limit {
		return nil, &limitError{"is larger than", limit, "bytes"}
	}
	if err != nil {
		return nil, fmt.Errorf("reading the answer (%s): %w", cut(res.Status, maxProblemText), err)
	}
	return body, nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// detached returns a copy of the response that shares nothing writable with the
// user's client, with a bounded header, the body that was read and a sane
// Retry-After. Its Location is absolute, base being the URL of the request.
func (r reply) detached(base *url.URL) *http.Response {
	res := *r.res
	res.Header = boundHeader(res.Header)
	rewriteRetryAfter(res.Header, time.Now())
	absolute(res.Header, base)
	if res.StatusCode >= 300 {
		res.Header[refusedURL] = []string{displayURL(base)}
	}
	res.Body = io.NopCloser(bytes.NewReader(r.body))
	res.ContentLength = int64(len(r.body))
	return &res
}

// failure returns the error of req, which was sent under ctx with this
// time-out, or nil. It distinguishes the request's own time-out from the end of
// the attempt.
func (r reply) failure(ctx context.Context, req *http.Request, e Endpoint, timeout time.Duration) *RequestError {
	failed := &RequestError{
		Method:   req.Method,
		URL:      displayURL(req.URL),
		Endpoint: e,
		Err:      r.err,
	}
	switch {
	case r.err == nil && req.Method == http.MethodPost && redirected(r.res):
		failed.Err = redirectError{status: r.res.StatusCode, target: r.res.Header.Get("Location")}
	case r.err == nil:
		return nil
	case req.Context().Err() != nil:
		failed.Err = req.Context().Err()
	case ctx.Err() != nil:
		failed.Err = context.DeadlineExceeded
		failed.Timeout = timeout
	}
	return failed
}

func redirected(res *http.Response) bool {
	return res.StatusCode >= 300 && res.StatusCode <= 399 && res.Header.Get("Location") != ""
}
