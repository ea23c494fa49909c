package acmetest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
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

// check panics if m can match no request, and brings its name into normal form.
func (s *Server) check(m *Match) {
	s.mustBeUsable()
	mustBeEndpoint(m.Endpoint)
	if m.Host != "" {
		m.Host = mustBePattern(m.Host)
	}
	s.mustBeAccountURL(m.Account)
	if m.After < 0 || m.Count < 0 {
		panic(fmt.Sprintf("acmetest: a Match counts requests from 0: After is %d, Count is %d", m.After, m.Count))
	}
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
	list       []*requestFault
	retryAfter map[Endpoint]retryAfter
}

// addFault begins a fault of requests.
func (s *Server) addFault(f *requestFault) *Fault {
	s.check(&f.match)
	f.name = cmp.Or(f.name, string(f.kind))
	fs := &s.faults
	f.Fault = s.begun.add(f.what(s.base), func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		fs.list = slices.DeleteFunc(fs.list, func(g *requestFault) bool { return g == f })
	})
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = append(fs.list, f)
	return f.Fault
}

// what describes the call that began the fault. base is what the URLs of
// accounts begin with.
func (f *requestFault) what(base string) string {
	m := f.match
	var args []string
	if m.Endpoint != Any {
		args = append(args, string(m.Endpoint))
	}
	if m.Host != "" {
		args = append(args, strconv.Quote(m.Host))
	}
	if m.Account != "" {
		args = append(args, strings.TrimPrefix(m.Account, base))
	}
	if m.After != 0 {
		args = append(args, "after "+strconv.Itoa(m.After))
	}
	if m.Count != 0 {
		args = append(args, "count "+strconv.Itoa(m.Count))
	}
	return f.name + "(" + strings.Join(args, ", ") + ")"
}

// take returns the faults that apply to a request, in order: pauses, edits,
// then the fault that ends the request, if any. If the CA sends no reply of its
// own, there are no edits.
func (fs *faults) take(e Endpoint, hosts []string, account string) []*requestFault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = slices.DeleteFunc(fs.list, func(f *requestFault) bool { return f.match.Count > 0 && f.hits == f.match.Count })
	var pauses, edits, last []*requestFault
	for _, f := range fs.list {
		if !f.match.fits(e, hosts, account) || f.kind == faultBlocked && account == "" {
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
			last = []*requestFault{f}
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
