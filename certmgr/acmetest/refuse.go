package acmetest

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// PauseName refuses new orders with a name as Let's Encrypt does after more than
// a thousand failed validations in a row: "rateLimited" without a Retry-After,
// whose text has a link of about 800 characters to a page on which a human can
// end it. Here only the lift function does, and the link leads nowhere.
//
// The rate limit ConsecutiveFailures pauses names that really failed.
func (s *Server) PauseName(host string, options ...FaultOption) *Fault {
	return s.addHostFault(&hostFault{kind: faultPause, host: host}, options)
}

// RejectName refuses new orders with names that match, with the type
// "rejectedIdentifier". As at Let's Encrypt, the text is about the first of
// them, and subproblems list them if there are several (RFC 8555, section
// 6.7.1).
func (s *Server) RejectName(host string, options ...FaultOption) *Fault {
	return s.addHostFault(&hostFault{kind: faultReject, host: host}, options)
}

// refuseNames returns why a new order with these names is refused by RejectName
// or PauseName, or nil.
func (s *Server) refuseNames(x *exchange, hosts []string) *Problem {
	if bad := s.hosts.matching(faultReject, hosts); len(bad) > 0 {
		s.journal.fault(x.entry, string(faultReject))
		return rejectProblem(bad)
	}
	if paused := s.hosts.matching(faultPause, hosts); len(paused) > 0 {
		s.journal.fault(x.entry, string(faultPause))
		return s.pauseProblem(paused)
	}
	return nil
}

// matching returns those of the names that faults of a kind now apply to, and
// counts their use.
func (fs *hostFaults) matching(kind hostFaultKind, hosts []string) []string {
	taken := fs.take(kind, hosts...)
	return slices.DeleteFunc(slices.Clone(hosts), func(host string) bool {
		return !slices.ContainsFunc(taken, func(f *hostFault) bool { return matchName(f.host, host) })
	})
}

func rejectProblem(hosts []string) *Problem {
	const why = "The ACME server refuses to issue a certificate for this domain name, because it is forbidden by policy"
	p := problemf("rejectedIdentifier", "Invalid identifiers requested :: Cannot issue for %q: %s", hosts[0], why)
	if more := len(hosts) - 1; more > 0 {
		p.Detail += fmt.Sprintf(" (and %d more problems. Refer to sub-problems for more information.)", more)
		for _, host := range hosts {
			detail := fmt.Sprintf("Invalid identifiers requested :: Cannot issue for %q: %s", host, why)
			p.Subproblems = append(p.Subproblems, Subproblem{p.Type, detail, host})
		}
	}
	return p
}

// pauseProblem returns the refusal of an order with paused names.
func (s *Server) pauseProblem(paused []string) *Problem {
	encode := base64.RawURLEncoding.EncodeToString
	token := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		encode(mustMarshal(map[string]any{"aud": []string{"SFE Unpause"}, "iss": "WFE", "version": "v1", "identifiers": randomText(350)})) +
		"." + randomText(32)
	return problemf("rateLimited", "Your account is temporarily prevented from requesting certificates for %s and possibly others. "+
		"Please visit: %s/sfe/v1/unpause?jwt=%s", strings.Join(paused, ", "), s.base, token)
}
