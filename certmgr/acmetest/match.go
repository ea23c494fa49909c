package acmetest

import (
	"slices"
	"strings"
	"sync"
)

// Match says which requests a fault is for. The zero value is for all of them.
type Match struct {
	// Endpoint is the endpoint; Any, the zero value, is every one.
	Endpoint Endpoint
	// Host is a name, or a wildcard as in Resolve, that the request is about: the names of the order, authorization
	// or certificate. Empty means any request, also those that are about no name.
	Host string
	// Account is the URL of the account that the request names, as the CA reads it before it checks the signature: by
	// the kid of its protected header, or by a jwk that is the key of an account. So newAccount matches if it is about
	// an account that exists, but not when it makes one. Empty means any request, also those that nobody signs.
	Account string
	// After is how many requests that fit all of the above pass before the fault acts. It counts each of them since
	// the fault began, also those that run into another fault: faults for the same requests with After 0, 1 and 2 and
	// Count 1 hit the first, the second and the third.
	After int
	// Count is how many requests the fault hits before it ends by itself; zero means until it is lifted.
	Count int
}

// normal returns m with the name as the CA writes it.
func (m Match) normal() Match {
	m.Host = strings.ToLower(m.Host)
	return m
}

// fits reports whether a request to e is one of those that m is for, whatever After and Count say.
func (m Match) fits(e Endpoint, hosts []string, account string) bool {
	if m.Endpoint != Any && m.Endpoint != e {
		return false
	}
	if m.Account != "" && m.Account != account {
		return false
	}
	return m.Host == "" || slices.ContainsFunc(hosts, func(host string) bool { return matchName(m.Host, host) })
}

// faults are the faults that are in force, oldest first.
type faults struct {
	mu         sync.Mutex
	list       []*fault
	retryAfter map[Endpoint]string
}

func (fs *faults) add(f *fault) (lift func()) {
	f.lifted = make(chan struct{})
	f.match = f.match.normal()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = append(fs.list, f)
	return sync.OnceFunc(func() {
		fs.mu.Lock()
		fs.list = slices.DeleteFunc(fs.list, func(g *fault) bool { return g == f })
		fs.mu.Unlock()
		close(f.lifted)
	})
}

// take returns the faults that a request runs into, in order: those that hold it up, those that edit the reply to it,
// then the one that ends it, if any. A request that ends without a reply of the CA has none to be edited.
func (fs *faults) take(e Endpoint, hosts []string, account string) []*fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = slices.DeleteFunc(fs.list, func(f *fault) bool { return f.match.Count > 0 && f.hits == f.match.Count })
	var pauses, edits, last []*fault
	for _, f := range fs.list {
		if !f.match.fits(e, hosts, account) {
			continue
		}
		if f.passed < f.match.After {
			f.passed++
			continue
		}
		switch {
		case f.pauses():
			pauses = append(pauses, f)
		case f.kind == faultEditReply:
			edits = append(edits, f)
		case last == nil:
			last = []*fault{f}
		}
	}
	if last != nil && last[0].kind != faultTruncate {
		edits = nil
	}
	hit := slices.Concat(pauses, edits, last)
	for _, f := range hit {
		f.hits++
	}
	return hit
}
