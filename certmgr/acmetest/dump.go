package acmetest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of a dump: a test that loops makes thousands of requests.
const (
	dumpFirst   = 50  // requests
	dumpLast    = 150 // requests
	dumpOthers  = 20  // orders in flight; failures; faults
	dumpHosts   = 3   // names of a request or an order
	dumpProblem = 400 // bytes of a problem's text
)

// String returns what the CA saw and did, for the output of a failing test: the
// log of requests, one a line, the orders in flight, why orders and validations
// failed, and the faults that never acted. Long lists are shortened to the
// first and last entries.
func (s *Server) String() string {
	requests := s.journal.last(-1)
	var b strings.Builder
	if field := s.changedField(); field != "" {
		fmt.Fprintf(&b, "acmetest: %s\n", changedText(field))
	}
	fmt.Fprintf(&b, "acmetest: %s: %d requests, %d being handled, %d certificates issued",
		s.URL, len(requests), s.journal.beingHandled(), len(s.issued()))
	if skew := s.skew.Load(); skew != 0 {
		fmt.Fprintf(&b, ", clock off by %v", time.Duration(skew))
	}
	b.WriteByte('\n')
	for i := 0; i < len(requests); i++ {
		if left := len(requests) - dumpLast - dumpFirst; i == dumpFirst && left > 0 {
			fmt.Fprintf(&b, "%10s %d requests are left out\n", "...", left)
			i += left
		}
		b.WriteString(s.line(requests[i], requests[0].Time) + "\n")
	}
	for _, list := range [][]string{s.ordersInFlight(), s.failures(""), s.unused()} {
		if left := len(list) - dumpOthers; left > 0 {
			fmt.Fprintf(&b, "%10s %d more are left out\n", "...", left)
			list = list[left:]
		}
		for _, line := range list {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// line describes a request; its time is relative to begin.
func (s *Server) line(r Request, begin time.Time) string {
	outcome := "---"
	if r.Status != 0 {
		outcome = fmt.Sprint(r.Status)
	}
	line := fmt.Sprintf("%10s %-4s %-13s %s",
		"+"+r.Time.Sub(begin).Round(time.Millisecond).String(), r.Method, r.Endpoint, outcome)
	if r.Host != "" {
		line += " " + someOf(r.hosts())
	}
	if r.Account != "" {
		line += " (" + s.path(r.Account) + ")"
	}
	if r.Fault != "" {
		line += " [fault: " + r.Fault + "]"
	}
	if r.Problem != "" {
		line += fmt.Sprintf(" %s: %s", r.Problem, quoted(r.Detail))
	}
	switch {
	case !r.ended:
		line += " (being handled)"
	case r.Status == 0:
		line += " (no reply)"
	}
	return line
}

// path shortens a URL of this CA.
func (s *Server) path(url string) string { return strings.TrimPrefix(url, s.base) }

// quoted returns the text of a problem as one line of bounded length.
func quoted(text string) string {
	if len(text) > dumpProblem {
		text = text[:dumpProblem] + "..."
	}
	return fmt.Sprintf("%q", text)
}

// someOf lists names, at most a few.
func someOf(hosts []string) string {
	if more := len(hosts) - dumpHosts; more > 1 {
		return fmt.Sprintf("%s and %d more", strings.Join(hosts[:dumpHosts], ","), more)
	}
	return strings.Join(hosts, ",")
}

// ordersInFlight describes the unfinished orders, oldest first.
func (s *Server) ordersInFlight() []string {
	var list []string
	for _, o := range s.placedOrders() {
		if !o.InFlight() {
			continue
		}
		line := fmt.Sprintf("order %s (%s) for %s is %s", s.path(o.URL), s.path(o.Account), someOf(o.Hosts), o.Status)
		if o.Profile != "" {
			line += ", profile " + o.Profile
		}
		if o.Replaces != "" {
			line += ", replaces " + o.Replaces
		}
		list = append(list, line)
	}
	return list
}

// failures describes why orders and validations failed, each oldest first, for
// the names that match a pattern of Resolve. An empty pattern matches all.
func (s *Server) failures(pattern string) []string {
	about := func(host string) bool { return pattern == "" || matchName(pattern, host) }
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, o := range s.state.orders {
		if o.status == invalid && o.problem != nil && slices.ContainsFunc(o.hosts, about) {
			list = append(list, fmt.Sprintf("order %s (%s) for %s failed: %s: %s", s.path(s.url(pathOrder, o.id)),
				s.path(s.url(pathAccount, o.account.id)), someOf(o.hosts), shortType(o.problem.Type), quoted(o.problem.Detail)))
		}
	}
	for _, c := range s.state.challenges {
		if c.status == invalid && c.problem != nil && about(c.authorization.host) {
			list = append(list, fmt.Sprintf("validation of %s failed: %s: %s",
				c.authorization.host, shortType(c.problem.Type), quoted(c.problem.Detail)))
		}
	}
	return list
}
