package acmeclient

import (
	"crypto"
	"net/http"
	"sync"
	"time"
)

// recentTime is for how long a CA may not know everywhere what one of its
// machines has done. Replicas of its database lag behind, usually for seconds.
const recentTime = time.Minute

// recentAccount is the account that was made or given another key last. The
// zero value is none. It is safe for concurrent use.
type recentAccount struct {
	mu   sync.Mutex // never held across I/O
	kid  string
	old  crypto.PublicKey // the key before, or nil for a new account
	when time.Time
}

func (r *recentAccount) note(kid string, old crypto.PublicKey, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kid, r.old, r.when = kid, old, now
}

// mayBeUnknown reports whether the CA may refuse a request because it has not
// heard everywhere of the account or of its new key.
func (r *recentAccount) mayBeUnknown(kid string, key crypto.PublicKey, res *http.Response, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if kid == "" || kid != r.kid || now.Sub(r.when) > recentTime {
		return false
	}
	kind := kindOf(problemType(res))
	if r.old == nil {
		return kind == "accountdoesnotexist"
	}
	if same, ok := r.old.(interface{ Equal(crypto.PublicKey) bool }); !ok || same.Equal(key) {
		return false // the old key is refused for good
	}
	return kind == "malformed" || kind == "unauthorized"
}

// isMissing reports whether the CA may not know yet what it has just made: an
// order, what belongs to it, or the account.
func (t *transport) isMissing(s *signedRequest, res *http.Response) bool {
	if res == nil || res.StatusCode < 400 || res.StatusCode > 499 {
		return false
	}
	switch s.purpose {
	case forObject, forChain, forChallenge, forFinalize:
		if res.StatusCode == http.StatusNotFound {
			return true
		}
	}
	key := t.key()
	return key != nil && t.ca.recent.mayBeUnknown(s.kid(), key.Public(), res, time.Now())
}

// noteAccount records what a successful response says about the account.
func (t *transport) noteAccount(s *signedRequest, res *http.Response) {
	switch {
	case res == nil || res.StatusCode > 299:
	case s.purpose == forAccount && res.StatusCode == http.StatusCreated:
		t.ca.recent.note(res.Header.Get("Location"), nil, time.Now())
	case s.purpose == forKeyChange:
		if key := t.key(); key != nil {
			t.ca.recent.note(s.kid(), key.Public(), time.Now())
		}
	}
}
