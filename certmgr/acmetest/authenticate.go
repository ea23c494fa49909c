package acmetest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// authenticate checks a POST: its form, key, signature, nonce and URL (RFC 8555, section 6), and sets x.jws and
// x.account. The nonce is used up only by a request that is signed well.
func (s *Server) authenticate(x *exchange) *Problem {
	if contentType := x.r.Header.Get("Content-Type"); contentType != "application/jose+json" {
		p := problemf("malformed", "content type %q instead of application/jose+json", contentType)
		p.Status = http.StatusUnsupportedMediaType
		return p
	}
	j, problem := parseJWS(x.body)
	if problem != nil {
		return problem
	}
	if !slices.Contains(algorithms(), *j.header.alg) {
		return badAlgorithm("alg %q is not supported", *j.header.alg)
	}
	key, problem := s.signer(x, j)
	if problem != nil {
		return problem
	}
	if *j.header.alg != key.alg {
		return badAlgorithm("alg %q does not go with the key, which needs %s", *j.header.alg, key.alg)
	}
	if !j.verify(key) {
		return problemf("malformed", "the signature of the JWS is wrong")
	}
	if problem := s.checkHeader(x, j); problem != nil {
		return problem
	}
	x.jws = j
	if x.account != nil {
		if status := s.accountStatus(x.account); status != valid {
			p := problemf("unauthorized", "the account is %s", status)
			p.Status = http.StatusUnauthorized // RFC 8555, section 7.3.6; Boulder sends 403
			return p
		}
	}
	return nil
}

func badAlgorithm(format string, args ...any) *Problem {
	p := problemf("badSignatureAlgorithm", format, args...)
	p.algorithms = algorithms()
	return p
}

// signer finds the key that signed the request, by exactly one of jwk and kid, and sets x.account in the latter case.
func (s *Server) signer(x *exchange, j *jws) (*publicKey, *Problem) {
	h := &j.header
	switch {
	case h.jwk != nil && h.kid != nil:
		return nil, problemf("malformed", "the protected header has both jwk and kid")
	case h.jwk == nil && h.kid == nil:
		return nil, problemf("malformed", "the protected header has neither jwk nor kid")
	case h.jwk != nil:
		if x.endpoint != NewAccount && x.endpoint != RevokeCert {
			return nil, problemf("malformed", "requests for %s are signed with kid and not with jwk", x.endpoint)
		}
		key, err := parseJWK(h.jwk)
		if err != nil {
			return nil, problemf("badPublicKey", "the jwk cannot be used: %v", err)
		}
		return key, nil
	case x.endpoint == NewAccount:
		return nil, problemf("malformed", "requests for newAccount are signed with jwk and not with kid")
	}
	a := s.accountByURL(*h.kid)
	if a == nil {
		return nil, problemf("accountDoesNotExist", "there is no account %q", *h.kid)
	}
	x.account = a
	return a.key, nil
}

// checkHeader checks nonce and URL.
func (s *Server) checkHeader(x *exchange, j *jws) *Problem {
	switch h := &j.header; {
	case h.nonce == nil || *h.nonce == "":
		return problemf("badNonce", "the protected header has no nonce")
	case !isBase64url(*h.nonce):
		return problemf("malformed", "the nonce %q is not base64url", *h.nonce)
	case !s.nonces.use(*h.nonce):
		return problemf("badNonce", "the nonce %q is unknown or was used before", *h.nonce)
	case h.url == nil:
		return problemf("malformed", "the protected header has no url")
	case *h.url != "https://"+x.r.Host+x.r.RequestURI:
		// RFC 8555, section 6.4; Boulder calls it malformed.
		return problemf("unauthorized", "the protected header's url is %q, but the request went to %q",
			*h.url, "https://"+x.r.Host+x.r.RequestURI)
	}
	return nil
}

func isBase64url(s string) bool {
	_, err := base64url.DecodeString(s)
	return err == nil
}

// isPostAsGet reports whether the payload is empty, not an empty object.
func (x *exchange) isPostAsGet() bool { return len(x.jws.payload) == 0 }

// requirePostAsGet refuses requests with a payload.
func (x *exchange) requirePostAsGet() *Problem {
	if x.isPostAsGet() {
		return nil
	}
	return problemf("malformed", "POST-as-GET needs an empty payload")
}

// decode reads the payload, which must be a JSON object, into v.
func (x *exchange) decode(v any) *Problem {
	if !strings.HasPrefix(strings.TrimLeft(string(x.jws.payload), " \t\r\n"), "{") {
		return problemf("malformed", "the payload is not a JSON object")
	}
	if err := json.Unmarshal(x.jws.payload, v); err != nil {
		return problemf("malformed", "the payload cannot be read: %v", err)
	}
	return nil
}
