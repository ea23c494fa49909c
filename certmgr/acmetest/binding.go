package acmetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"hash"
)

// checkBinding checks the external account binding of a newAccount request (RFC
// 8555, section 7.3.4).
func (s *Server) checkBinding(x *exchange, raw json.RawMessage) *Problem {
	if s.EAB == nil {
		return nil // an unexpected binding is ignored
	}
	if len(raw) == 0 || string(raw) == "null" {
		return problemf("externalAccountRequired", "an external account binding is required")
	}
	j, problem := parseJWS(raw)
	if problem != nil {
		return problem.within("externalAccountBinding")
	}
	h := &j.header
	newHash := macHash(*h.alg)
	switch {
	case newHash == nil:
		return problemf("malformed", "externalAccountBinding: alg %q is not a MAC algorithm", *h.alg)
	case h.jwk != nil || h.kid == nil:
		return problemf("malformed", "externalAccountBinding: it needs kid and no jwk")
	case h.nonce != nil:
		return problemf("malformed", "externalAccountBinding: it must not have a nonce")
	case h.url == nil || *h.url != *x.jws.header.url:
		return problemf("malformed", "externalAccountBinding: url is not that of the request")
	}
	secret, ok := s.EAB[*h.kid]
	if !ok {
		return problemf("unauthorized", "externalAccountBinding: there is no external account %q", *h.kid)
	}
	mac := hmac.New(newHash, secret)
	mac.Write(j.input)
	if !hmac.Equal(mac.Sum(nil), j.signature) {
		return problemf("unauthorized", "externalAccountBinding: the MAC is wrong for key identifier %q", *h.kid)
	}
	bound, err := parseJWK(j.payload)
	if err != nil {
		return problemf("malformed", "externalAccountBinding: the payload is not a JWK: %v", err)
	}
	if bound.thumbprint != x.key.thumbprint {
		return problemf("malformed", "externalAccountBinding: the payload is not the account's key")
	}
	return nil
}

func macHash(alg string) func() hash.Hash {
	switch alg {
	case "HS256":
		return sha256.New
	case "HS384":
		return sha512.New384
	case "HS512":
		return sha512.New
	default:
		return nil
	}
}
