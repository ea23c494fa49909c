package certmgr

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/pace"
)

// A HostState is the state of a host for one of its key types.
type HostState string

// The states of a host. A certificate in memory decides first: it is valid or
// expired. All other states are those of a host without one.
const (
	StateValid   HostState = "valid"       // a valid certificate is served
	StateIssuing HostState = "issuing"     // no certificate; one is being issued
	StateBackoff HostState = "backing off" // no certificate; the next attempt is due at RetryAt

	// No certificate, and the CA refuses the host until somebody acts.
	// The next attempt is a day after the last one. Obtain, Renew and a change
	// of the host's entry on the allowlist cause one at once.
	StatePaused   HostState = "paused"   // after too many failures; a visit to Failure.UnpauseURL ends that
	StateRejected HostState = "rejected" // by the CA's policy, or by the CAA records of the domain

	// No certificate, and with preflight.Enforce the name of a host on the
	// list does not lead here: Failure says where it leads. It is probed at
	// RetryAt, and ordered once it leads here.
	StateWaitingForDNS HostState = "waiting_for_dns"

	StateExpired HostState = "expired" // the certificate in memory ended at NotAfter; Issuing, Failure and RetryAt say what is done about it
	StateFailed  HostState = "failed"  // no certificate; the next handshake begins an attempt
)

// HostStatus is the state of a host and key type, as known to a Manager.
type HostStatus struct {
	Host           string
	Group          string // the first name of the group that Host is in, or empty; see Allowlist.AddGroup
	KeyType        string // "ECDSA" or "RSA"; empty if a failure affects both; for a certificate of the operator's own also "Ed25519"
	State          HostState
	NotBefore      time.Time // of the certificate in memory
	NotAfter       time.Time
	RenewAt        time.Time    // when renewal is due; zero if it is not renewed
	RenewalCause   RenewalCause // what decided RenewAt
	StateSince     time.Time    // when State began, as far as this Manager knows
	ExplanationURL string       // the CA's page on why to renew, or empty
	Issuer         string       // name of the CA that issued the certificate in memory

	// Source says where a certificate of Manager.Certificates is from, such as
	// the path of its file, and is empty for one that was issued or is from the
	// Cache. Host may be a wildcard then, and NotBefore to Issuer are those of
	// that certificate.
	Source string

	// Fallback is true if there is no certificate and clients of the host got
	// Manager.Fallback within the last 10 minutes.
	Fallback bool

	// Successor is when the certificate ends that the CA has issued and that
	// takes the place of the one from Source. It is zero if there is none.
	Successor time.Time

	Issuing      bool        // an issuance is in flight, possibly a renewal
	IssuingSince time.Time   // when it began
	Stage        audit.Stage // its current stage
	Waiting      int         // handshakes waiting for it
	Holder       string      // the machine that issues in place of this one, which follows it; empty if none does; see Fleets in the package documentation

	Profile string // that its next order asks for: see Manager.Profile; empty leaves the choice to the CA

	Failure *IssuanceError // the last failure, or nil; do not change it
	RetryAt time.Time      // when the next attempt is due after Failure

	// RenewalFailure is why the certificate in memory was not renewed when it
	// was last due, or nil. It may have failed for a reason that is not the
	// host's and therefore not in Failure: the CA is not available, or the
	// Cache cannot be read.
	RenewalFailure error

	Refused       uint64    // handshakes refused for this host (both key types) since the start
	LastRequested time.Time // when a client last asked for this host, to the hour; zero if not since the start
}

// RenewalCause says what decided the time of a renewal.
type RenewalCause string

// The values of RenewalCause.
const (
	RenewalCauseCA       RenewalCause = "renewal information" // the CA's suggestion (ARI, RFC 9773)
	RenewalCauseLifetime RenewalCause = "lifetime"            // the certificate's age, or Manager.RenewBefore
	RenewalCauseRetry    RenewalCause = "retry"               // the last attempt failed or could not begin
	RenewalCauseUnneeded RenewalCause = "no client needs it"  // it is not renewed: see audit.RenewalSkipped
	RenewalCauseTests    RenewalCause = "for tests"           // the certificate is from a CA for tests: see audit.CertificateUntrusted
	RenewalCauseOwn      RenewalCause = "your own"            // it is not renewed: it is from Manager.Certificates
)

// Snapshot is the state of a Manager at one time.
type Snapshot struct {
	Time           time.Time
	CA             string        // directory URL
	CAUnavailable  time.Time     // the CA is not tried before this; zero if it is in use
	CAFailure      error         // why it is unavailable; an ErrNoAccount if the account is, and not the CA
	OrderBudget    int           // the limit of orders in 3 hours: Manager.OrderBudget; 0 if there is none
	OrdersLeft     int           // orders of it that are left
	Hosts          []HostStatus  // by host and key type
	Issuing        int           // issuances holding a slot
	Queued         int           // issuances waiting for a slot
	Waiting        int           // handshakes waiting
	Refused        uint64        // handshakes refused since the start
	RecentFailures []audit.Event // the 32 most recent, oldest first; of hosts that are not in Hosts by their exact names 8, or more if there is room
	RecentEvents   []audit.Event // likewise 64 and 16 of all kinds except start_progress
	Warnings       []string      // about the setup: those of audit.ConfigurationWarning, certificates that are for tests, and those of Manager.Certificates that cannot be used
	HostsFile      string        // the file of Manager.Hosts (OpenAllowlist); empty if it has none
	Closed         bool
}

// report implements Snapshot, Metrics and StaleHosts. It changes nothing.
type report struct {
	*env
	health     *health
	memory     *memory
	schedule   *schedule
	issuer     *issuer
	handshakes *handshakes
	visits     *visits
	waiters    *flight.Waiters
}

// Snapshot returns the state of all hosts that are in memory, in flight or
// failed. Its parts are consistent in themselves, but taken one after the
// other.
func (m *Manager) Snapshot() Snapshot {
	m.init()
	s := m.engine.report
	snap := Snapshot{Time: s.now(), CA: s.dir, Waiting: s.waiters.Waiting(), Closed: s.tasks.IsClosed()}
	snap.Issuing, snap.Queued = s.issuer.slots.Load()
	out := s.health.breaker.state()
	snap.CAUnavailable, snap.CAFailure = out.wait.Until, out.cause
	snap.OrderBudget, snap.OrdersLeft = s.issuer.orders.budget.size, s.issuer.orders.budget.left()
	snap.RecentFailures, snap.RecentEvents = s.audit.Last()
	snap.Refused = s.handshakes.refused()
	snap.Hosts = s.hostStatuses(snap.Time)
	if l := s.settings.hosts; l != nil && l.file != nil {
		snap.HostsFile = l.file.Path()
	}
	snap.Warnings = s.warnAbout(snap.Hosts)
	slices.SortFunc(snap.Hosts, func(a, b HostStatus) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(a.KeyType, b.KeyType))
	})
	return snap
}

// warnAbout returns the warnings, given the state of all hosts.
func (s *report) warnAbout(hosts []HostStatus) []string {
	list := append(s.warnings.all(), s.issuer.orders.profiles.warnings()...)
	list = append(list, s.own.warnings()...)
	if w := s.settings.fallback.warning(s.now()); w != "" {
		list = append(list, w)
	}
	var first HostStatus
	n := 0
	for _, st := range hosts {
		if st.RenewalCause != RenewalCauseTests {
			continue
		}
		if n++; n == 1 || st.Host < first.Host {
			first = st
		}
	}
	if n > 0 {
		list = append(list, fmt.Sprintf("%d certificates in the Cache are from a CA for tests, and clients do not trust them: that of %s was issued by %s; "+
			"they are being replaced", n, first.Host, first.Issuer))
	}
	return list
}

type statusKey struct{ host, keyType string }

// hostStatuses returns the state of each host, unsorted.
func (s *report) hostStatuses(now time.Time) (list []HostStatus) {
	statuses := newStatuses(s.own, now)
	byKey, status := statuses.byKey, statuses.of
	for c, at := range s.memory.all() {
		if statuses.isReplaced(c, at.host) {
			continue
		}
		var planned HostStatus
		s.schedule.describe(c.subject, &planned)
		if planned.RenewalCause == RenewalCauseUnneeded && !c.usable(now) {
			continue // it is about to be taken out of service
		}
		st := status(at.host, c.subject.alg.String())
		st.NotBefore, st.NotAfter, st.Issuer = c.notBefore, c.notAfter, issuerOf(c.leaf)
		st.RenewAt, st.RenewalCause = planned.RenewAt, planned.RenewalCause
		st.ExplanationURL, st.RenewalFailure = planned.ExplanationURL, planned.RenewalFailure
		if st.RenewalCause == RenewalCauseUnneeded {
			st.RenewAt = time.Time{}
		}
		st.State, st.StateSince = StateValid, at.since
		if !c.usable(now) {
			st.State, st.StateSince = StateExpired, c.notAfter
		}
	}
	statuses.addOwn()
	s.issuer.issues.Each(func(c *issueCall) {
		for _, host := range s.members(c.Key) {
			st := status(host, c.Key.alg.String())
			st.Issuing, st.IssuingSince, st.Stage, st.Waiting = true, c.Since, issuanceOf(c).getStage(), c.Waiting()
			st.Holder = issuanceOf(c).holder()
			if !st.hasCertificate() {
				st.State, st.StateSince = StateIssuing, c.Since
			}
		}
	})
	s.eachFailure(func(host string, rec *failure, both bool) {
		if statuses.isBarred(host) {
			return
		}
		keyType := rec.err.KeyType
		if _, held := byKey[statusKey{host, keyType}]; both && !held {
			keyType = ""
		}
		st := status(host, keyType)
		if st.Failure != nil && st.RetryAt.After(rec.err.RetryAt) {
			return // of two the one counts that lasts longer
		}
		st.Failure, st.RetryAt = rec.err, rec.err.RetryAt
		if st.StateSince.IsZero() {
			st.StateSince = rec.since
		}
		if !st.hasCertificate() && !st.Issuing && now.Before(st.RetryAt) {
			st.State, st.StateSince = StateBackoff, rec.since
			if rec.err.State.isHeld() {
				st.State = rec.err.State
			}
		}
	})
	s.health.dns.all(func(e *IssuanceError, since time.Time) {
		if statuses.isBarred(e.Host) {
			return
		}
		keyType := e.KeyType
		if _, held := byKey[statusKey{e.Host, keyType}]; !held {
			keyType = ""
		}
		st := status(e.Host, keyType)
		st.Failure, st.RetryAt = e, pace.Later(e.RetryAt, now) // it may be late
		if !st.hasCertificate() && !st.Issuing {
			st.State, st.StateSince = StateWaitingForDNS, since
		}
	})
	statuses.finish()
	list = make([]HostStatus, 0, len(byKey))
	for _, st := range byKey {
		st.LastRequested, st.Refused = s.visits.of(st.Host)
		st.Profile = s.issuer.orders.profiles.of(s.subject(st.Host, bundle.ECDSA)).name
		st.Fallback = st.State != StateValid && hadFallback(s.visits, st.Host, fallbackFor, now)
		if g := s.settings.hosts.group(st.Host); g != nil {
			st.Group = g.First()
		}
		list = append(list, *st)
	}
	return list
}

// eachFailure is failures.all, with the failures of groups as those of their
// members.
func (s *report) eachFailure(yield func(host string, rec *failure, both bool)) {
	s.health.failures.all(func(id string, rec *failure, both bool) {
		for _, host := range s.hostsOfID(id) {
			yield(host, rec, both)
		}
	})
}
