package acmeclient

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"
)

const replayNonce = "Replay-Nonce"

// transport is the RoundTripper of the acme.Clients of a CA.
type transport struct {
	ca           *CA
	directoryURL string               // canonical
	key          func() crypto.Signer // the client's account key, may return nil
}

var _ http.RoundTripper = (*transport)(nil)

// RoundTrip answers from the CA's memory where it can and otherwise uses the
// network. It removes nonces from responses: an acme.Client would guard its own
// with a mutex that it holds while it fetches more.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	sent, err := t.resolve(req)
	if err != nil {
		TraceOf(req.Context()).fail(EndpointOther, "")
		return nil, err
	}
	switch {
	case req.Method == http.MethodHead:
		// x/crypto/acme sends HEAD only for nonces, to newNonce or, if the
		// directory lacks it, to another resource.
		return t.newNonce(sent)
	case req.Method == http.MethodGet && sent.URL.String() == t.directoryURL:
		return t.getDirectory(sent)
	case req.Method == http.MethodGet:
		res, err := t.get(sent, forUnsigned)
		return t.keepNonce(res), err
	}
	s, err := t.readSigned(sent)
	if err != nil {
		return nil, err
	}
	if sent != req { // the signature covers the URL
		if err := t.sign(s, map[string]string{"url": sent.URL.String()}); err != nil {
			return nil, err
		}
	}
	return t.post(s)
}

// sign signs s again, with the account key.
func (t *transport) sign(s *signedRequest, members map[string]string) error {
	key := t.key()
	if key == nil || s.purpose == forRevoke {
		return &RequestError{
			Method:   s.req.Method,
			URL:      displayURL(s.req.URL),
			Endpoint: s.e,
			Err:      errNotAbsolute,
		}
	}
	return s.signWith(key, members)
}

// post sends a signed request, and sends it again with a fresh nonce where that
// is safe and may help.
func (t *transport) post(s *signedRequest) (*http.Response, error) {
	ctx := s.req.Context()
	var tr tries
	for {
		res, err := t.postOnce(s)
		f := faultOf(res, err)
		if f == faultNone && err == nil && t.isMissing(s, res) {
			f = faultMissing
		}
		if t.key() == nil || !again(ctx, tr.wait(s.purpose, f, t.backoff(s.req, res))) {
			t.noteAccount(s, res)
			return res, err
		}
		nonce, err := t.freshNonce(ctx)
		if err != nil {
			return nil, err
		}
		if err := s.signWith(t.key(), map[string]string{"nonce": nonce}); err != nil {
			return nil, err
		}
	}
}

func (t *transport) backoff(req *http.Request, res *http.Response) func(n int) time.Duration {
	return func(n int) time.Duration { return t.ca.retryBackoff(n, req, res) }
}

// postOnce sends a signed request once.
func (t *transport) postOnce(s *signedRequest) (*http.Response, error) {
	var res *http.Response
	var err error
	trace := TraceOf(s.req.Context())
	if r, ok := s.req.Context().Value(replacesKey{}).(*replaces); ok && s.purpose == forOrder {
		res, err = r.post(t, s.req)
	} else {
		res, err = t.exchange(s.req, s.purpose, s.e)
	}
	if err == nil {
		err = t.settle(s.purpose, s.e, s.req, res)
	}
	trace.posted(res, err)
	t.keepNonce(res)
	if err != nil {
		return nil, err
	}
	if u := certificateIn(readAgain(res)); u != "" {
		trace.setCertificate(t.absoluteURL(u))
	}
	return res, nil
}

// settle is settle with an error that names the request. The trace then says
// that it failed.
func (t *transport) settle(p purpose, e Endpoint, req *http.Request, res *http.Response) error {
	cause := settle(p, req, res)
	if cause == nil {
		return nil
	}
	u := displayURL(req.URL)
	TraceOf(req.Context()).fail(e, u)
	return &RequestError{
		Method:   req.Method,
		URL:      u,
		Endpoint: e,
		Err:      cause,
	}
}

// newNonce takes a nonce from the pool, or asks the CA.
func (t *transport) newNonce(req *http.Request) (*http.Response, error) {
	nonce, err := t.ca.nonces.take(req.Context(), time.Now())
	if err != nil {
		return nil, err
	}
	if nonce != "" {
		h := http.Header{}
		h.Set(replayNonce, nonce)
		return fromMemory(req, h, nil), nil
	}
	res, err := t.get(req, forNonce)
	if err == nil && (res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500) {
		// With a nonce here, the acme.Client would go on to post to a CA that
		// has just asked to be left alone.
		res.Header.Del(replayNonce)
	}
	if err == nil && res.Header.Get(replayNonce) == "" {
		u := displayURL(req.URL)
		TraceOf(req.Context()).fail(EndpointNewNonce, u)
		if doc := t.ca.directory.current(); doc != nil && doc.Nonce == "" {
			return nil, &RequestError{
				Method:   req.Method,
				URL:      u,
				Endpoint: EndpointNewNonce,
				Err:      errNoNewNonce,
			}
		}
	}
	return res, err
}

// freshNonce returns a nonce for a request that is sent again.
func (t *transport) freshNonce(ctx context.Context) (string, error) {
	u := t.directoryURL
	if doc := t.ca.directory.current(); doc != nil && doc.Nonce != "" {
		u = doc.Nonce
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, u, nil)
	if err != nil {
		return "", err
	}
	if req, err = t.resolve(req); err != nil {
		return "", err
	}
	if t.ca.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", t.ca.cfg.UserAgent)
	}
	res, err := t.newNonce(req)
	if err != nil {
		return "", err
	}
	if nonce := res.Header.Get(replayNonce); nonce != "" {
		return nonce, nil
	}
	return "", &RequestError{
		Method:   req.Method,
		URL:      displayURL(req.URL),
		Endpoint: EndpointNewNonce,
		Err:      problemOf(res, nil),
	}
}

// get sends an unsigned request, and sends it again if that may help.
func (t *transport) get(req *http.Request, p purpose) (*http.Response, error) {
	e := t.endpoint(req.URL.String())
	switch p {
	case forDirectory:
		e = EndpointDirectory
	case forNonce:
		e = EndpointNewNonce
	}
	var tr tries
	for {
		res, err := t.exchange(req, p, e)
		if err == nil {
			err = t.settle(p, e, req, res)
		}
		f := faultOf(res, err)
		if !again(req.Context(), tr.wait(p, f, t.backoff(req, res))) {
			if err != nil {
				return nil, err
			}
			return res, nil
		}
	}
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
