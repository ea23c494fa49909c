package acmeclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/nostall/nostall/internal/flight"
)

const replayNonce = "Replay-Nonce"

// transport is the RoundTripper of every acme.Client of a CA.
type transport struct {
	ca           *CA
	directoryURL string // canonical
}

var _ http.RoundTripper = (*transport)(nil)

// RoundTrip answers from the CA's memory where it can and otherwise uses the
// network. It removes nonces from responses: an acme.Client would guard its own
// with a mutex that it holds while it fetches more.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	switch {
	case req.Method == http.MethodHead:
		// x/crypto/acme sends HEAD only for nonces, to newNonce or, if the
		// directory lacks it, to another resource.
		return t.newNonce(req)
	case req.Method == http.MethodGet && req.URL.String() == t.directoryURL:
		return t.getDirectory(req)
	case req.Method == http.MethodGet:
		res, err := t.exchangeAgain(req, t.endpoint(req.URL.String()))
		return t.keepNonce(res), err
	default:
		return t.post(req, t.endpoint(req.URL.String()))
	}
}

// post sends a signed request.
func (t *transport) post(req *http.Request, e Endpoint) (*http.Response, error) {
	var res *http.Response
	var err error
	if r, ok := req.Context().Value(replacesKey{}).(*replaces); ok && e == EndpointNewOrder {
		res, err = r.post(t, req)
	} else {
		res, err = t.exchange(req, e)
	}
	TraceOf(req.Context()).posted(res, err)
	return t.keepNonce(res), err
}

// newNonce takes a nonce from the pool, or asks the CA. It retries a 5xx, which
// x/crypto/acme would not: one lost nonce must not end a whole attempt.
func (t *transport) newNonce(req *http.Request) (*http.Response, error) {
	for n := 1; ; n++ {
		if nonce, ok := t.ca.nonces.pop(time.Now()); ok {
			h := http.Header{}
			h.Set(replayNonce, nonce)
			return fromMemory(req, h, nil), nil
		}
		res, err := t.exchangeAgain(req, EndpointNewNonce)
		if err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusTooManyRequests && res.StatusCode < 500 {
			if res.Header.Get(replayNonce) == "" {
				TraceOf(req.Context()).fail(EndpointNewNonce, displayURL(req.URL))
			}
			return res, nil
		}
		// With a nonce here, the acme.Client would go on to post to a CA that
		// has just asked to be left alone.
		res.Header.Del(replayNonce)
		d := t.ca.retryBackoff(n, req, res)
		if d <= 0 {
			return res, nil
		}
		if err := flight.Sleep(req.Context(), d); err != nil {
			return nil, err
		}
	}
}

// exchangeAgain is exchange for a request that may be sent twice. It retries
// once after a connection failure, but not after a time-out, because a second
// one would take just as long.
func (t *transport) exchangeAgain(req *http.Request, e Endpoint) (*http.Response, error) {
	res, err := t.exchange(req, e)
	var failed *RequestError
	if err == nil || !errors.As(err, &failed) || !failed.connection() || req.Context().Err() != nil {
		return res, err
	}
	if err := flight.Sleep(req.Context(), jitter(retryStep)); err != nil {
		return nil, err
	}
	return t.exchange(req, e)
}

// keepNonce moves the nonce of a response into the pool. A badNonce response
// means that the CA forgot its nonces (after a restart, for example), so the
// pool is emptied first. A nil res stays nil.
func (t *transport) keepNonce(res *http.Response) *http.Response {
	if res == nil {
		return nil
	}
	if isBadNonce(res) {
		t.ca.nonces.clear()
	}
	t.ca.nonces.push(res.Header.Get(replayNonce), time.Now())
	res.Header.Del(replayNonce)
	return res
}

// isBadNonce reports whether res is a badNonce problem.
func isBadNonce(res *http.Response) bool {
	return res.StatusCode >= 400 && res.StatusCode <= 499 && kindOf(problemType(res)) == "badnonce"
}

// problemType returns the type of the problem document in res, or "". The body
// can still be read afterwards.
func problemType(res *http.Response) string {
	b, err := io.ReadAll(res.Body)
	res.Body = io.NopCloser(bytes.NewReader(b))
	var problem struct{ Type string }
	if err != nil || json.Unmarshal(b, &problem) != nil {
		return ""
	}
	return problem.Type
}

// fromMemory returns a 200 response made without a request to the CA.
func fromMemory(req *http.Request, h http.Header, body []byte) *http.Response {
	h.Set("Content-Length", strconv.Itoa(len(body)))
	return &http.Response{
		Status:        "200 OK",
		StatusCode:    http.StatusOK,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        h,
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       req,
	}
}
