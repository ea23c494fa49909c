package acmetest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Request is an entry of the log of requests.
type Request struct {
	// Time is when the request came in.
	Time time.Time
	// Method is the HTTP method.
	Method string
	// Endpoint is the resource that was asked for.
	Endpoint Endpoint
	// Host is the name that the request is about, several are separated by commas; empty if it is about none.
	Host string
	// Account is the URL of the account that signed it, or that it made; empty if there is none.
	Account string
	// Status is the status of the reply; zero if there was none (yet).
	Status int
	// Problem is the error type of the reply without its prefix; empty if the reply was none.
	Problem string
	// Detail is the error's text.
	Detail string
	// Fault names the faults that the request ran into, separated by commas, such as "stall"; empty if there was none.
	Fault string
	// UserAgent is the header of that name.
	UserAgent string
}

// hosts splits Host.
func (r *Request) hosts() []string { return strings.Split(r.Host, ",") }

// journal is the log of requests, in the order in which they came in.
type journal struct {
	mu       sync.Mutex
	entries  []*Request // targets are guarded as well
	inFlight int
}

func (j *journal) begin(r *http.Request, e Endpoint) *Request {
	entry := &Request{Time: time.Now(), Method: r.Method, Endpoint: e, UserAgent: r.UserAgent()}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, entry)
	j.inFlight++
	return entry
}

func (j *journal) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.inFlight--
}

// about notes what a request is about. An empty account leaves what is known.
func (j *journal) about(entry *Request, hosts []string, account string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	entry.Host = strings.Join(hosts, ",")
	if account != "" {
		entry.Account = account
	}
}

func (j *journal) fault(entry *Request, kind string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if entry.Fault != "" {
		kind = entry.Fault + "," + kind
	}
	entry.Fault = kind
}

func (j *journal) status(entry *Request, status int, problem *Problem) {
	j.mu.Lock()
	defer j.mu.Unlock()
	entry.Status = status
	if problem != nil {
		entry.Problem, entry.Detail = shortType(problem.Type), problem.Detail
	}
}

// Requests returns the log of requests, in the order in which they came in.
func (s *Server) Requests() []Request {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	list := make([]Request, len(s.journal.entries))
	for i, entry := range s.journal.entries {
		list[i] = *entry
	}
	return list
}

// Count returns how many requests to an endpoint came in, those that ran into a fault included; Any counts all.
func (s *Server) Count(e Endpoint) int {
	return s.journal.count(func(r *Request) bool { return e == Any || e == r.Endpoint })
}

// CountHost returns how many requests to an endpoint came in that are about a name.
func (s *Server) CountHost(e Endpoint, host string) int {
	return s.journal.count(func(r *Request) bool {
		return (e == Any || e == r.Endpoint) && slices.Contains(r.hosts(), strings.ToLower(host))
	})
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

// InFlight returns how many requests are being handled, stalled ones included.
func (s *Server) InFlight() int {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return s.journal.inFlight
}

// String returns the log of requests, one a line, and why validations failed, for the output of a failing test.
func (s *Server) String() string {
	requests := s.Requests()
	var b strings.Builder
	fmt.Fprintf(&b, "acmetest: %s: %d requests, %d being handled, %d certificates issued\n",
		s.URL, len(requests), s.InFlight(), len(s.Issued()))
	for _, r := range requests {
		fmt.Fprintf(&b, "%10s %-4s %-13s %-3s %s",
			"+"+r.Time.Sub(requests[0].Time).Round(time.Millisecond).String(), r.Method, r.Endpoint, r.outcome(), r.Host)
		if r.Account != "" {
			fmt.Fprintf(&b, " (%s)", strings.TrimPrefix(r.Account, s.base))
		}
		if r.Fault != "" {
			fmt.Fprintf(&b, " [fault: %s]", r.Fault)
		}
		if r.Problem != "" {
			fmt.Fprintf(&b, " %s: %q", r.Problem, r.Detail)
		}
		b.WriteByte('\n')
	}
	for _, failure := range s.failedValidations() {
		b.WriteString(failure + "\n")
	}
	return b.String()
}

func (r *Request) outcome() string {
	if r.Status == 0 {
		return "---"
	}
	return fmt.Sprint(r.Status)
}
