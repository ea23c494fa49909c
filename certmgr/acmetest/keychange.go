package acmetest

import (
	"encoding/json"
	"net/http"
)

// keyChange gives an account a new key (RFC 8555, section 7.3.5).
//
// Nothing else changes: orders and authorizations continue. A validation in
// progress still expects the key authorization from its start, since that is
// what the client has set up; challenges accepted later need the new key. The
// old key is free for a new account. The key of a deactivated account is not.
func (s *Server) keyChange(x *exchange) (*reply, *Problem) {
	inner, problem := parseJWS(x.jws.payload)
	if problem != nil {
		return nil, problem.within("the inner JWS")
	}
	key, problem := inner.newKey(*x.jws.header.url)
	if problem != nil {
		return nil, problem.within("the inner JWS")
	}
	var payload struct {
		Account string
		OldKey  json.RawMessage
	}
	if problem := decodeObject(inner.payload, &payload); problem != nil {
		return nil, problem.within("the inner JWS")
	}
	if url := s.url(pathAccount, x.account.id); payload.Account != url {
		return nil, problemf("malformed", "the account in the inner JWS is %q, but %q signed the request", payload.Account, url)
	}
	oldKey, err := parseJWK(payload.OldKey)
	if err != nil {
		return nil, problemf("malformed", "the oldKey in the inner JWS is not a JWK: %v", err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if oldKey.thumbprint != x.account.key.thumbprint {
		return nil, problemf("malformed", "the oldKey in the inner JWS is not the account's key")
	}
	// This also applies if the account is this one; Boulder and Pebble then
	// return malformed with status 400.
	if other := s.state.accountByKey[key.thumbprint]; other != nil {
		p := problemf("malformed", "the new key is that of an account already")
		p.Status, p.location = http.StatusConflict, s.url(pathAccount, other.id)
		return nil, p
	}
	delete(s.state.accountByKey, oldKey.thumbprint)
	x.account.key = key
	s.state.accountByKey[key.thumbprint] = x.account
	return s.accountReply(x, x.account, http.StatusOK), nil
}

// newKey returns the key that signed the inner JWS of a key change, after
// checking header and signature. url is that of the outer JWS.
func (j *jws) newKey(url string) (*publicKey, *Problem) {
	h := &j.header
	switch {
	case h.jwk == nil || h.kid != nil:
		return nil, problemf("malformed", "it needs jwk and no kid")
	case h.nonce != nil: // Boulder ignores it; RFC 8555 forbids it
		return nil, problemf("malformed", "it must not have a nonce")
	case h.url == nil || *h.url != url:
		return nil, problemf("malformed", "its url is not that of the outer JWS")
	}
	key, err := parseJWK(h.jwk)
	if err != nil {
		return nil, problemf("badPublicKey", "the jwk cannot be used: %v", err)
	}
	return key, j.check(key)
}
