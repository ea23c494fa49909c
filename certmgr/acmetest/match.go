package acmetest

import (
	"slices"
	"strings"
	"sync"
)

// Match selects the requests that a fault applies to. The zero value selects
// all.
type Match struct {
	// Endpoint is the endpoint; Any, the zero value, matches all.
	Endpoint Endpoint
	// Host is a name, or a wildcard as in Resolve, that the request is about: a
	// name of the order, authorization or certificate. Empty matches all
	// requests, including those about no name.
	Host string
	// Account is the URL of the account that the request names, read before the
	// signature is checked: by the kid of its protected header, or by a jwk
	// that is the key of an account. So newAccount matches for an existing
	// account but not when it creates one. Empty matches all requests,
	// including unsigned ones.
	Account string
	// After is how many requests that fit the fields above pass before the
	// fault acts. It counts all of them since the fault began, including those
	// that run into another fault: faults with After 0, 1 and 2 and Count 1 hit
	// the first, second and third request.
	After int
	// Count is how many requests the fault hits before it ends; zero means
	// until it is lifted.
	Count int
}

// normal returns m with the name in the CA's form.
func (m Match) normal() Match {
	m.Host = strings.ToLower(m.Host)
	return m
}

// fits reports whether m selects a request to e, ignoring After and Count.
func (m Match) fits(e Endpoint, hosts []string, account string) bool {
	if m.Endpoint != Any && m.Endpoint != e {
		return false
	}
	if m.Account != "" && m.Account != account {
		return false
	}
	return m.Host == "" || slices.ContainsFunc(hosts, func(host string) bool { return matchName(m.Host, host) })
}

// faults holds the active faults, oldest first.
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

// take returns the faults that apply to a request, in order: pauses, edits,
// then the fault that ends the request, if any. If the CA sends no reply of its
// own, there are no edits.
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
