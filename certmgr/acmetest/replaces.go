package acmetest

import "slices"

// setReplaces records which certificate a new order replaces (RFC 9773, section
// 5), if any. s.mu is held.
//
// A certificate counts as replaced as soon as an order that replaces it exists
// and is not invalid, even a pending one: RFC 9773 speaks of "a different Order
// that is not invalid", and so does Boulder. Pebble allows a second order until
// the first is finalized.
func (s *Server) setReplaces(o *order, certID string) *Problem {
	if certID == "" || s.NoRenewalInfo { // an unknown member is ignored
		return nil
	}
	c, problem := s.certificateWith(certID)
	if problem != nil {
		return problem
	}
	if other := c.replacement; other != nil && other.current(o.created) != invalid {
		return problemf("alreadyReplaced", "order %d, which is %s, replaces the certificate %s already",
			other.id, other.status, certID)
	}
	if c.account != o.account {
		return problemf("unauthorized", "another account ordered the certificate %s that shall be replaced", certID)
	}
	if !slices.ContainsFunc(o.hosts, func(host string) bool { return slices.Contains(c.hosts, host) }) {
		return problemf("malformed", "the order for %v shares no name with the certificate %s for %v that it shall replace",
			o.hosts, certID, c.hosts)
	}
	o.replaces, o.inWindow = c, c.suggestedWindow().contains(o.created)
	return nil
}
