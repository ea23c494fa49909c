package acmetest

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Request is an entry of the log of requests.
type Request struct {
	// Time is when the request arrived.
	Time time.Time
	// Method is the HTTP method.
	Method string
	// Endpoint is the requested resource.
	Endpoint Endpoint
	// Host is the name that the request is about, or several, separated by
	// commas; empty if none.
	Host string
	// Account is the URL of the account that the request names (see Match) or
	// created; empty if none.
	Account string
	// Status is the status of the reply; zero if there is none (yet).
	Status int
	// Problem is the error type of the reply without its prefix; empty if the
	// reply is not a problem document.
	Problem string
	// Detail is the error's text.
	Detail string
	// Fault names the methods of the faults that acted on the request, separated
	// by commas, such as "Stall"; empty if none.
	Fault string
	// UserAgent is the User-Agent header.
	UserAgent string

	ended bool // its handling has ended
}

// hosts splits Host.
func (r *Request) hosts() []string {
	if r.Host == "" {
		return nil
	}
	return strings.Split(r.Host, ",")
}

// journal is the log of requests, in order of arrival.
type journal struct {
	mu       sync.Mutex
	entries  []*Request // mu guards the targets too
	inFlight int

	changes *broadcast // notified after each change
}

// endRequest records that a request's handling has ended, and reports it.
func (s *Server) endRequest(entry *Request) {
	s.journal.end(entry)
	if s.OnRequest != nil {
		s.OnRequest(s.journal.entry(entry))
	}
}

func (j *journal) begin(r *http.Request, e Endpoint) *Request {
	entry := &Request{Time: time.Now(), Method: r.Method, Endpoint: e, UserAgent: r.UserAgent()}
	defer j.changes.notify()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, entry)
	j.inFlight++
	return entry
}

func (j *journal) end(entry *Request) {
	defer j.changes.notify()
	j.mu.Lock()
	defer j.mu.Unlock()
	entry.ended = true
	j.inFlight--
}

// about records what a request is about. An empty account changes nothing.
func (j *journal) about(entry *Request, hosts []string, account string) {
	defer j.changes.notify()
	j.mu.Lock()
	defer j.mu.Unlock()
	entry.Host = strings.Join(hosts, ",")
	if account != "" {
		entry.Account = account
	}
}

func (j *journal) fault(entry *Request, name string) {
	defer j.changes.notify()
	j.mu.Lock()
	defer j.mu.Unlock()
	if entry.Fault != "" {
		name = entry.Fault + "," + name
	}
	entry.Fault = name
}

func (j *journal) status(entry *Request, status int, problem *Problem) {
	defer j.changes.notify()
	j.mu.Lock()
	defer j.mu.Unlock()
	entry.Status = status
	if problem != nil {
		entry.Problem, entry.Detail = shortType(problem.Type), problem.Detail
	}
}

// Requests returns the log of requests, in order of arrival.
func (s *Server) Requests() []Request {
	s.mustBeUsable()
	return s.journal.last(-1)
}

// ForgetRequests empties the log of requests and returns its previous content.
// It is for tests that make millions of requests, or that count from some point
// on. Requests being handled are removed as well, but InFlight still counts
// them.
func (s *Server) ForgetRequests() []Request {
	s.mustBeUsable()
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	list := s.journal.copies(s.journal.entries)
	s.journal.entries = nil
	return list
}

// last returns the last n requests, or all of them if n is negative.
func (j *journal) last(n int) []Request {
	j.mu.Lock()
	defer j.mu.Unlock()
	entries := j.entries
	if n >= 0 && len(entries) > n {
		entries = entries[len(entries)-n:]
	}
	return j.copies(entries)
}

// copies returns copies of the entries. j.mu is held.
func (j *journal) copies(entries []*Request) []Request {
	list := make([]Request, len(entries))
	for i, entry := range entries {
		list[i] = *entry
	}
	return list
}

// entry returns a copy of an entry.
func (j *journal) entry(entry *Request) Request {
	j.mu.Lock()
	defer j.mu.Unlock()
	return *entry
}

// Count returns the number of requests to an endpoint, including those that ran
// into a fault; Any counts all.
func (s *Server) Count(e Endpoint) int { return s.countMatch(Match{Endpoint: e}) }

// CountHost returns the number of requests to an endpoint about a name.
func (s *Server) CountHost(e Endpoint, host string) int {
	s.mustBeUsable()
	mustBeEndpoint(e)
	host = mustBeName(host)
	return s.journal.count(func(r *Request) bool {
		return (e == Any || e == r.Endpoint) && slices.Contains(r.hosts(), host)
	})
}

// CountAccount returns the number of requests to an endpoint from the account
// with this URL.
func (s *Server) CountAccount(e Endpoint, account string) int {
	s.mustBeUsable()
	mustBeEndpoint(e)
	s.mustBeAccountURL(account)
	return s.journal.count(func(r *Request) bool {
		return (e == Any || e == r.Endpoint) && r.Account == account
	})
}

// countMatch returns the number of requests that fit m, ignoring its After and
// Count.
func (s *Server) countMatch(m Match) int {
	s.check(&m)
	return s.journal.count(func(r *Request) bool { return m.fits(r.Endpoint, r.hosts(), r.Account) })
}

func (j *journal) count(want func(*Request) bool) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, entry := range j.entries {
		if want(entry) {
			n++
		}
	}
	return n
}

// InFlight returns the number of requests being handled, including stalled
// ones.
func (s *Server) InFlight() int {
	s.mustBeUsable()
	return s.journal.beingHandled()
}

func (j *journal) beingHandled() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.inFlight
}
