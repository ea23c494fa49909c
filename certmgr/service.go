package certmgr

import (
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// service implements keeper: it tracks the hosts in service for the components
// that issue and load certificates.
type service struct {
	*env
	memory     *memory
	failures   *failures
	dns        *dnsWaits
	unfinished *orderStore
	progress   *progress
	visits     *visits
	schedule   *schedule
	deliveries *deliveries
}

var _ keeper = (*service)(nil)

func (s *service) scheduleIssued(c *certificate) {
	s.schedule.planIssued(c)
	s.entered(c)
}

func (s *service) scheduleLoaded(c *certificate) {
	s.schedule.planLoaded(c)
	s.entered(c)
	s.unfinished.sweep(c)
	s.deliveries.deliver(c)
}

func (s *service) deliver(c *certificate) { s.deliveries.deliver(c) }

func (s *service) notDueBefore(sub subject) time.Time {
	var st HostStatus
	s.schedule.describe(sub, &st)
	if st.RenewalFailure != nil || st.RenewalCause == RenewalCauseRetry || !st.RenewAt.After(s.now()) {
		return time.Time{}
	}
	return st.RenewAt
}

func (s *service) scheduleProbe(sub subject, t time.Time) { probeDates{s.schedule}.set(sub, t) }

func (s *service) noteReached(host string, g grant) { s.visits.noteReached(host, g, s.now()) }

// caIsBack implements keeper. Renewals have time, and come by themselves.
func (s *service) caIsBack() {
	now := s.now()
	for sub := range s.schedule.items.All() {
		if s.memory.current(sub) == nil && s.failures.active(sub, now) == nil {
			s.schedule.hasten(sub)
		}
	}
}

// evicted follows memory: a host that has made way there is not renewed before
// its next visitor loads it again.
func (s *service) evicted(certs []*certificate) {
	s.warnings.warn("memory has no room for all hosts that are not in Manager.Hosts by their exact names: those without visitors make way for others, " +
		"are loaded from the Cache at their next visit, and renewed only then; list by their exact names the hosts that must not wait for that")
	for _, c := range certs {
		s.schedule.dropUnserved(c.subject)
	}
	s.visits.forget(certs[0].subject.host())
}

// drop implements keeper.
func (s *service) drop(host string, why error) {
	if s.settings.trustOf(host) != notAllowed {
		return
	}
	s.failures.forgetHost(host)
	s.forgetGroup(host)
	if sub, waited := s.dns.end(host, endedUnlisted); waited {
		defer s.schedule.dropUnserved(sub)
	}
	if s.unfinished.hasHost(host) {
		s.unfinished.dropHost(host)
	}
	// Memory first: the schedule takes and keeps only what is there.
	e := s.memory.drop(host)
	if e != nil {
		for _, c := range e.all() {
			s.schedule.dropUnserved(c.subject)
		}
	}
	s.progress.have(host)
	s.visits.forget(host)
	if e == nil || e.no.Load() != 0 {
		return
	}
	dropped := audit.Event{
		Kind:     audit.HostDropped,
		Host:     host,
		Decision: audit.Refused,
		Rule:     s.settings.decider(),
		Reason:   "no longer allowed",
		Err:      why,
	}
	if e.trust == listed { // it no longer is
		s.audit.EmitReserved(dropped)
	} else {
		s.audit.Emit(dropped)
	}
}
