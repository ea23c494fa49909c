package acmeclient

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
)

// signWith signs s again with these members of its protected header replaced.
func (s *signedRequest) signWith(key crypto.Signer, members map[string]string) error {
	var alg string
	if err := json.Unmarshal(s.header["alg"], &alg); err != nil {
		return err
	}
	for name, value := range members {
		raw, err := json.Marshal(value)
		if err != nil {
			return err
		}
		s.header[name] = raw
	}
	protected, err := json.Marshal(s.header)
	if err != nil {
		return err
	}
	s.jws.Protected = base64.RawURLEncoding.EncodeToString(protected)
	signature, err := signJWS(key, alg, []byte(s.jws.Protected+"."+s.jws.Payload))
	if err != nil {
		return err
	}
	s.jws.Signature = base64.RawURLEncoding.EncodeToString(signature)
	body, err := json.Marshal(s.jws)
	if err != nil {
		return err
	}
	s.req = setBody(s.req, body)
	return nil
}

// resolve makes the URL of req absolute, and refuses one that no request is
// sent to. RFC 8555 has only absolute URLs, but some CAs send paths.
// x/crypto/acme would send those to no host.
func (t *transport) resolve(req *http.Request) (*http.Request, error) {
	failed := &RequestError{
		Method:   req.Method,
		URL:      displayURL(req.URL),
		Endpoint: EndpointOther,
	}
	out := req
	if req.URL.Scheme == "" || req.URL.Host == "" {
		if req.URL.String() == "" {
			failed.Err = errNoURL
			return nil, failed
		}
		u, err := url.Parse(t.absoluteURL(req.URL.String()))
		if err != nil || u.Host == "" {
			failed.Err = errNotAbsolute
			return nil, failed
		}
		out = req.Clone(req.Context())
		out.URL, out.Host = u, ""
	}
	if failed.Err = t.ca.refuse(out.URL); failed.Err != nil {
		return nil, failed
	}
	t.ca.origins.note(out.URL)
	return out, nil
}

// absoluteURL returns a URL from the CA in absolute form, or as it is if that
// is impossible.
func (t *transport) absoluteURL(raw string) string {
	base, err := url.Parse(t.directoryURL)
	if err != nil || raw == "" {
		return raw
	}
	u, err := base.Parse(raw)
	if err != nil {
		return raw
	}
	return u.String()
}

var (
	errNoNewNonce  = errors.New("no nonce: the CA's ACME directory lacks newNonce")
	errNoURL       = errors.New("the CA names no URL for this request: its ACME directory must have newNonce, newAccount and newOrder")
	errNotAbsolute = errors.New("the CA sent a URL that is not absolute, as RFC 8555 requires")
)

// absolute makes a Location absolute, which HTTP allows to be relative.
func absolute(h http.Header, base *url.URL) {
	location := h.Get("Location")
	if location == "" || base == nil {
		return
	}
	if u, err := url.Parse(location); err == nil && !u.IsAbs() {
		h.Set("Location", base.ResolveReference(u).String())
	}
}
