package acmetest

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// renewalMemory is how long after a certificate an order for the same names
// counts as a renewal, as in Boulder.
const renewalMemory = 120 * 24 * time.Hour

// limiter holds the counters of RateLimits. Server.mu guards all but the
// buckets.
type limiter struct {
	buckets buckets
	paused  map[pausedName]bool
	issued  map[string]time.Time // time of the last certificate for a set of names
}

type pausedName struct {
	account *account
	host    string
}

func (l *limiter) init() {
	l.paused = make(map[pausedName]bool)
	l.issued = make(map[string]time.Time)
}

// Unpause ends the pause of a name by RateLimits.ConsecutiveFailures, for all
// accounts, and resets its consecutive failures. At Let's Encrypt a human does
// this, on the page that the error names.
func (s *Server) Unpause(host string) {
	s.mustBeUsable()
	host = mustBeName(host)
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.limits.paused {
		if name.host == host {
			delete(s.limits.paused, name)
			s.limits.buckets.reset(s.consecutiveFailure(name.account, host))
		}
	}
}

// limitRequest returns a problem if a request comes too soon after others.
func (s *Server) limitRequest(x *exchange) *Problem {
	if s.RateLimits == nil {
		return nil
	}
	name, what := string(x.endpoint), "requests to "+string(x.endpoint)
	limit, ok := s.RateLimits.Requests[x.endpoint]
	if !ok {
		name, what, limit = "Any", "requests", s.RateLimits.Requests[Any]
	}
	key := bucketKey{"Requests[" + name + "]", x.address()}
	problem := s.take([]charge{{limit, key, what, "the address " + x.address()}}, nil)
	if problem != nil {
		problem.Status = http.StatusServiceUnavailable
	}
	return problem
}

// limitAccount counts a new account, or refuses it.
func (s *Server) limitAccount(x *exchange) *Problem {
	if s.RateLimits == nil {
		return nil
	}
	key := bucketKey{"NewAccounts", x.address()}
	return s.take([]charge{{s.RateLimits.NewAccounts, key, "new accounts", "the address " + x.address()}}, nil)
}

// limitOrder counts a new order, or refuses it. s.mu is held.
func (s *Server) limitOrder(o *order) *Problem {
	if s.RateLimits == nil {
		return nil
	}
	if problem := s.pausedProblem(o); problem != nil {
		return problem
	}
	if o.inWindow {
		return nil
	}
	var spent, checked []charge
	for _, host := range o.hosts {
		checked = append(checked, s.failedValidation(o.account, host))
	}
	checked = append(checked, s.certificateOfSet(o.hosts))
	if !s.isRenewal(o) {
		account := s.url(pathAccount, o.account.id)
		spent = []charge{{s.RateLimits.NewOrders, bucketKey{"NewOrders", account}, "new orders", account}}
		checked = append(checked, s.certificatesOfDomains(o.domains)...)
	}
	return s.take(spent, checked)
}

// pausedProblem returns a problem if names of the order are paused. s.mu is
// held.
func (s *Server) pausedProblem(o *order) *Problem {
	var paused []string
	for _, host := range o.hosts {
		if s.limits.paused[pausedName{o.account, host}] {
			paused = append(paused, host)
		}
	}
	if paused == nil {
		return nil
	}
	problem := s.pauseProblem(paused)
	problem.Detail += fmt.Sprintf(" (more than %d validations failed in a row: see ConsecutiveFailures and Unpause)",
		s.RateLimits.ConsecutiveFailures.Burst)
	return problem
}

// countIssued counts a certificate issued for an order. s.mu is held.
func (s *Server) countIssued(o *order) {
	if s.RateLimits == nil {
		return
	}
	now := s.now()
	s.limits.buckets.spend(now, []charge{s.certificateOfSet(o.hosts)})
	if !s.isRenewal(o) {
		s.limits.buckets.spend(now, s.certificatesOfDomains(o.domains))
	}
	s.limits.issued[exactSet(o.hosts)] = now
}

// countValidation counts the result of a validation. s.mu is held.
func (s *Server) countValidation(a *authorization, failed bool) {
	if s.RateLimits == nil {
		return
	}
	consecutive := s.consecutiveFailure(a.account, a.host)
	if !failed {
		s.limits.buckets.reset(consecutive)
		return
	}
	now := s.now()
	s.limits.buckets.spend(now, []charge{s.failedValidation(a.account, a.host)})
	if refused, _ := s.limits.buckets.take(now, []charge{consecutive}, nil); refused != nil {
		s.limits.paused[pausedName{a.account, a.host}] = true
	}
}

// isRenewal reports whether a certificate for the same names was issued
// recently. s.mu is held.
func (s *Server) isRenewal(o *order) bool {
	last, ok := s.limits.issued[exactSet(o.hosts)]
	return ok && s.now().Sub(last) <= renewalMemory
}

func exactSet(hosts []string) string { return strings.Join(hosts, ",") }

func (s *Server) certificateOfSet(hosts []string) charge {
	key := bucketKey{"CertificatesPerSet", exactSet(hosts)}
	return charge{s.RateLimits.CertificatesPerSet, key, "certificates", "exactly the names " + someOf(hosts)}
}

func (s *Server) certificatesOfDomains(domains []string) []charge {
	var charges []charge
	for _, domain := range domains {
		key := bucketKey{"CertificatesPerDomain", domain}
		charges = append(charges, charge{s.RateLimits.CertificatesPerDomain, key, "certificates", "names of " + domain})
	}
	return charges
}

func (s *Server) failedValidation(a *account, host string) charge {
	by := host + " by " + s.url(pathAccount, a.id)
	return charge{s.RateLimits.FailedValidations, bucketKey{"FailedValidations", by}, "failed validations", by}
}

func (s *Server) consecutiveFailure(a *account, host string) charge {
	by := host + " by " + s.url(pathAccount, a.id)
	return charge{s.RateLimits.ConsecutiveFailures, bucketKey{"ConsecutiveFailures", by}, "failed validations in a row", by}
}

// take spends tokens for a client's action, or refuses it. It needs a token for
// each charge in both lists and spends those of the first.
func (s *Server) take(spent, checked []charge) *Problem {
	now := s.now()
	c, wait := s.limits.buckets.take(now, spent, checked)
	if c == nil {
		return nil
	}
	p := problemf("rateLimited", "too many %s for %s: the limit %s is %d", c.what, c.whose, c.key.limit, c.limit.Burst)
	if wait == never {
		p.Detail += " for ever"
		return p
	}
	p.Detail += fmt.Sprintf(" and one more each %v, retry after %s",
		c.limit.Refill, roundUp(now.Add(wait)).UTC().Format("2006-01-02 15:04:05 MST"))
	p.retryAfter = wait
	return p
}

// address returns the IP address of the client.
func (x *exchange) address() string {
	host, _, err := net.SplitHostPort(x.r.RemoteAddr)
	if err != nil {
		return x.r.RemoteAddr
	}
	return host
}
