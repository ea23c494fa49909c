package acmetest

import (
	"encoding/json"
	"net/http"
)

// keyChange gives an account another key (RFC 8555, section 7.3.5).
//
// Nothing else changes: orders and authorizations go on. A validation that is under way ends with the key authorization
// of its beginning, for that is what its client has put in place; challenges that are accepted later need the new key.
// The old key is free: a new account can be made with it. The key of a deactivated account is not.
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
	// Also if that account is this one: Boulder and Pebble call it malformed with status 400 then.
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

// newKey returns the key that signed the inner JWS of a key change, if header and signature are right. The url is that
// of the outer JWS.
func (j *jws) newKey(url string) (*publicKey, *Problem) {
	h := &j.header
	switch {
	case h.jwk == nil || h.kid != nil:
		return nil, problemf("malformed", "it needs jwk and no kid")
	case h.nonce != nil: // Boulder ignores it, but RFC 8555 forbids it
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
