package acmetest

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// authenticate checks a POST: its form, key, signature, nonce and URL (RFC
// 8555, section 6), and sets x.jws, x.key and x.account. Only a correctly
// signed request uses up its nonce.
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
	if problem := j.check(key); problem != nil {
		return problem
	}
	if problem := s.checkHeader(x, j); problem != nil {
		return problem
	}
	x.jws, x.key = j, key
	if x.account != nil {
		if status := s.accountStatus(x.account); status != valid {
			p := problemf("unauthorized", "the account is %s", status)
			p.Status = http.StatusUnauthorized // RFC 8555, section 7.3.6; Boulder sends 403
			return p
		}
	}
	return nil
}

// check returns a problem if the key did not sign the JWS.
func (j *jws) check(key *publicKey) *Problem {
	if *j.header.alg != key.alg {
		return badAlgorithm("alg %q does not go with the key, which needs %s", *j.header.alg, key.alg)
	}
	if !j.verify(key) {
		return problemf("malformed", "the signature of the JWS is wrong")
	}
	return nil
}

func badAlgorithm(format string, args ...any) *Problem {
	p := problemf("badSignatureAlgorithm", format, args...)
	p.algorithms = algorithms()
	return p
}

// signer returns the key that signed the request. It is named by exactly one of
// jwk and kid; for kid, signer sets x.account.
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
	a, key := s.accountByURL(*h.kid)
	if a == nil {
		return nil, problemf("accountDoesNotExist", "there is no account %q", *h.kid)
	}
	x.account = a
	return key, nil
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
	_, err := decode64(s)
	return err == nil
}

// isPostAsGet reports whether the payload is empty (not an empty object).
func (x *exchange) isPostAsGet() bool { return len(x.jws.payload) == 0 }

// requirePostAsGet refuses requests with a payload.
func (x *exchange) requirePostAsGet() *Problem {
	if x.isPostAsGet() {
		return nil
	}
	return problemf("malformed", "POST-as-GET needs an empty payload")
}

// decode decodes the payload, which must be a JSON object, into v.
func (x *exchange) decode(v any) *Problem { return decodeObject(x.jws.payload, v) }

// decodeObject decodes a payload, which must be a JSON object, into the struct
// that v points to. Unknown members are ignored (RFC 8555, section 7.3). Unlike
// in encoding/json, names are case-sensitive: a client that writes
// "Identifiers" would work only with CAs written in Go.
func decodeObject(payload []byte, v any) *Problem {
	members, err := parseObject(payload)
	if err != nil {
		return problemf("malformed", "the payload is not a JSON object: %v", err)
	}
	maps.DeleteFunc(members, func(name string, _ json.RawMessage) bool { return !hasMember(v, name) })
	if err := json.Unmarshal(mustMarshal(members), v); err != nil {
		return problemf("malformed", "the payload cannot be read: %v", err)
	}
	return nil
}

// hasMember reports whether the struct that v points to has a field for a
// member of a JSON object: by its tag or, without a tag, by its name with a
// lower-case first letter.
func hasMember(v any, name string) bool {
	t := reflect.TypeOf(v).Elem()
	for i := range t.NumField() {
		field := t.Field(i)
		want, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if want == "" {
			want = strings.ToLower(field.Name[:1]) + field.Name[1:]
		}
		if want == name {
			return true
		}
	}
	return false
}
