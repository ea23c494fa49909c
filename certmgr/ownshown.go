package certmgr

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/internal/text"
)

// statuses collects the state of hosts for a Snapshot.
type statuses struct {
	own   *ownIndex // may be nil
	now   time.Time
	byKey map[statusKey]*HostStatus
	shows map[*HostStatus]*ownCert
}

func newStatuses(o *owned, now time.Time) *statuses {
	s := &statuses{now: now, byKey: make(map[statusKey]*HostStatus), shows: make(map[*HostStatus]*ownCert)}
	if o != nil {
		s.own = o.index.Load()
	}
	return s
}

// of returns the state of a host for a key type. If the operator's own
// certificate is served, that of its key type decides.
func (s *statuses) of(host, keyType string) *HostStatus {
	if c := s.serving(host); c != nil {
		return s.showOwn(host, c)
	}
	key := statusKey{host, keyType}
	st := s.byKey[key]
	if st == nil {
		st = &HostStatus{Host: host, KeyType: keyType, State: StateFailed}
		s.byKey[key] = st
	}
	return st
}

// serving returns the operator's own certificate that is served for a host, or
// nil.
func (s *statuses) serving(host string) *ownCert {
	if s.own == nil {
		return nil
	}
	return s.own.longest(host, s.now)
}

// isBarred reports whether nothing is issued for a host now, because it has a
// certificate of the operator's own.
func (s *statuses) isBarred(host string) bool {
	c := s.serving(host)
	return c != nil && c.handover.After(s.now)
}

// addOwn adds the operator's own certificates, after those in memory.
func (s *statuses) addOwn() {
	if s.own == nil {
		return
	}
	for _, c := range s.own.byName {
		s.addOwnCert(c)
	}
	for _, r := range s.own.rejected {
		if r.expired != nil {
			s.addOwnCert(r.expired)
		}
	}
}

func (s *statuses) addOwnCert(c *ownCert) {
	for _, name := range c.names {
		if c.isValid(s.now) {
			s.showOwn(name, c)
		} else if s.serving(name) == nil && !s.isServed(name) {
			st := s.of(name, c.keyType)
			if st.Source == "" || c.notAfter.After(st.NotAfter) {
				st.show(c)
				st.State, st.StateSince = StateExpired, c.notAfter
			}
		}
	}
}

// isServed reports whether a certificate of the CA is served for a host.
func (s *statuses) isServed(host string) bool {
	for _, kt := range []string{"ECDSA", "RSA"} {
		if st := s.byKey[statusKey{host, kt}]; st != nil && st.State == StateValid {
			return true
		}
	}
	return false
}

// showOwn returns the state of a host with a valid certificate of the
// operator's own: that one, or one that lasts longer.
func (s *statuses) showOwn(host string, c *ownCert) *HostStatus {
	key := statusKey{host, c.keyType}
	st := s.byKey[key]
	if st == nil {
		st = &HostStatus{Host: host, KeyType: c.keyType}
		s.byKey[key] = st
	}
	if st.Source == "" || c.notAfter.After(st.NotAfter) {
		st.show(c)
		st.State, st.StateSince = StateValid, c.since
		s.shows[st] = c
	}
	return st
}

// isReplaced reports whether the operator's own certificate is served for the
// host of a certificate in memory, and notes when that one would end.
func (s *statuses) isReplaced(c *certificate, host string) bool {
	own := s.serving(host)
	if own == nil {
		return false
	}
	if st := s.showOwn(host, own); c.usable(s.now) && c.notAfter.After(st.Successor) {
		st.Successor = c.notAfter
	}
	return true
}

// finish says of which of the operator's own certificates nothing takes the
// place.
func (s *statuses) finish() {
	for st, c := range s.shows {
		if st.Successor.After(c.notAfter) {
			continue
		}
		st.Successor = time.Time{}
		if c.mark(s.now) >= ownLate {
			st.RenewalFailure = fmt.Errorf("the certificate is your own, from %s, and ends at %s: nothing takes its place; replace it",
				text.OneLine(c.source, maxOwnSource), text.Stamp(c.notAfter))
		}
	}
}

// show sets the fields of the certificate.
func (h *HostStatus) show(c *ownCert) {
	h.NotBefore, h.NotAfter, h.Issuer, h.Source = c.notBefore, c.notAfter, issuerOf(c.cert.Leaf), c.source
	h.RenewAt, h.RenewalCause = time.Time{}, RenewalCauseOwn
	h.RenewalFailure, h.ExplanationURL = nil, ""
}

// warnings returns what is wrong with the operator's own certificates now.
func (o *owned) warnings() (list []string) {
	if o == nil {
		return nil
	}
	if why := o.failed.Load(); why != nil {
		list = append(list, *why)
	}
	x := o.index.Load()
	if x == nil || len(x.rejected) == 0 {
		return list
	}
	first := slices.MinFunc(x.rejected, func(a, b ownRejection) int { return strings.Compare(a.name, b.name) })
	return append(list, text.OneLine(fmt.Sprintf("%d of the certificates of Manager.Certificates cannot be used: %s", len(x.rejected), text.Cause(first.err)), text.MaxError))
}
