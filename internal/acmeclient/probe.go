package acmeclient

import (
	"context"
	"net/http"
	"time"
)

// Probe sends the cheapest request that can tell whether the CA works at all: for
// a nonce, or for the directory if that is not known. It does not try again.
// The response serves the next attempt. An error wraps the *acme.Error of the
// CA's response, or a *RequestError.
func Probe(ctx context.Context, ca *CA) error {
	t := &transport{ca: ca, directoryURL: canonicalURL(ca.cfg.DirectoryURL)}
	if doc := ca.directory.current(); doc != nil && doc.Nonce != "" {
		return Cause(t.probeNonce(ctx, doc.Nonce))
	}
	return Cause(t.probeDirectory(ctx))
}

func (t *transport) probeNonce(ctx context.Context, url string) error {
	res, err := t.probe(ctx, http.MethodHead, url, forNonce, EndpointNewNonce)
	if err != nil {
		return err
	}
	nonce := res.Header.Get(replayNonce)
	if res.StatusCode <= 299 && nonce != "" {
		t.keepNonce(res)
		return nil
	}
	if res.StatusCode <= 499 && res.StatusCode != http.StatusTooManyRequests {
		t.ca.Forget() // the CA may have moved: the next probe asks for the directory
	}
	return problemOf(res, nil)
}

func (t *transport) probeDirectory(ctx context.Context) error {
	_, _, generation := t.ca.directory.get(time.Now())
	res, err := t.probe(ctx, http.MethodGet, t.directoryURL, forDirectory, EndpointDirectory)
	if err != nil {
		return err
	}
	t.keepNonce(res)
	if t.keepDirectory(res, generation) {
		return nil
	}
	return problemOf(res, readAgain(res))
}

// probe sends one request.
func (t *transport) probe(ctx context.Context, method, url string, p purpose, e Endpoint) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	if req, err = t.resolve(req); err != nil {
		return nil, err
	}
	if t.ca.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", t.ca.cfg.UserAgent)
	}
	res, err := t.exchange(req, p, e)
	if err != nil {
		return nil, err
	}
	return res, t.settle(p, e, req, res)
}
