package acmetest

import "time"

// dates are the dates of a certificate, or those that an order asks for. A zero
// time is none.
type dates struct{ notBefore, notAfter time.Time }

func (d dates) equal(other dates) bool {
	return d.notBefore.Equal(other.notBefore) && d.notAfter.Equal(other.notAfter)
}

// show adds the dates to an order object (RFC 8555, section 7.1.3).
func (d dates) show(object map[string]any) {
	if !d.notBefore.IsZero() {
		object["notBefore"] = d.notBefore.UTC().Format(time.RFC3339)
	}
	if !d.notAfter.IsZero() {
		object["notAfter"] = d.notAfter.UTC().Format(time.RFC3339)
	}
}

// usualDates returns the dates of a certificate with a profile that is issued
// now.
func (s *Server) usualDates(profile string) dates {
	lifetime := s.lifetimeOf(profile)
	notBefore := s.now().Add(-min(maxBackdate, lifetime/10)).Truncate(time.Second)
	return dates{notBefore, notBefore.Add(lifetime - time.Second)} // the lifetime includes both ends
}

// askedDates reads the dates that an order asks for.
func (s *Server) askedDates(notBefore, notAfter *string) (asked dates, problem *Problem) {
	if !s.RequestedDates && (notBefore != nil || notAfter != nil) {
		return asked, problemf("malformed", "notBefore and notAfter are not supported")
	}
	for _, member := range []struct {
		name string
		text *string
		time *time.Time
	}{{"notBefore", notBefore, &asked.notBefore}, {"notAfter", notAfter, &asked.notAfter}} {
		if member.text == nil {
			continue
		}
		t, err := time.Parse(time.RFC3339, *member.text)
		if err != nil {
			return asked, problemf("malformed", "%s is not a date of RFC 3339: %v", member.name, err)
		}
		*member.time = t.Truncate(time.Second)
	}
	return asked, nil
}

// chooseDates returns the dates of the certificate of an order that asks for
// some, or none if orders have none.
func (s *Server) chooseDates(asked dates, profile string) (dates, *Problem) {
	if !s.RequestedDates {
		return dates{}, nil
	}
	lifetime, d := s.lifetimeOf(profile), s.usualDates(profile)
	if !asked.notBefore.IsZero() {
		d = dates{asked.notBefore, asked.notBefore.Add(lifetime - time.Second)}
	}
	if !asked.notAfter.IsZero() {
		d.notAfter = asked.notAfter
	}
	switch {
	case d.notAfter.Before(d.notBefore), d.notAfter.Before(s.now()):
		return d, problemf("malformed", "the certificate would end before it begins, or before now: from %v to %v", d.notBefore, d.notAfter)
	case d.notAfter.Sub(d.notBefore) >= lifetime:
		return d, problemf("malformed", "the certificate would be valid from %v to %v, for longer than %v", d.notBefore, d.notAfter, lifetime)
	}
	return d, nil
}
