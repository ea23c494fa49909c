package status_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/status"
)

// now is the time of every Snapshot in these tests.
var now = time.Date(2026, 11, 20, 14, 32, 7, 0, time.UTC)

const (
	caURL = "https://ca.example/directory"
	day   = 24 * time.Hour
)

// still is a Source with constant data.
type still struct {
	snap certmgr.Snapshot
	nums certmgr.Metrics

	dropped int // events of each host
}

func (s *still) Snapshot() certmgr.Snapshot { return s.snap }
func (s *still) Metrics() certmgr.Metrics   { return s.nums }

func (s *still) HostEvents(host string) certmgr.HostEvents {
	kept := certmgr.HostEvents{Dropped: s.dropped}
	for _, e := range s.snap.RecentEvents {
		if e.Host == host {
			kept.Events = append(kept.Events, e)
		}
	}
	return kept
}

// valid returns a host with 30 of 90 days behind it.
func valid(host string) certmgr.HostStatus {
	return certmgr.HostStatus{Host: host, KeyType: "ECDSA", State: certmgr.StateValid, StateSince: now.Add(-30 * day),
		NotBefore: now.Add(-30 * day), NotAfter: now.Add(60 * day), RenewAt: now.Add(30 * day), RenewalCause: certmgr.RenewalCauseLifetime}
}

// failing returns h after a failure, to be tried again after retry.
func failing(h certmgr.HostStatus, state certmgr.HostState, retry time.Duration, cause string) certmgr.HostStatus {
	h.State, h.StateSince, h.RetryAt = state, now.Add(-time.Hour), now.Add(retry)
	h.Failure = &certmgr.IssuanceError{Host: h.Host, KeyType: h.KeyType, Stage: audit.StageChallenge, CA: caURL,
		Attempt: "a1b2-3", Attempts: 3, Time: now.Add(-time.Hour), RetryAt: h.RetryAt, Err: errors.New(cause),
		URL: caURL + "/authorization/1"}
	return h
}

// everyState returns one host in each state, named after it, and the rest of a
// Snapshot.
func everyState() *still {
	issuing := certmgr.HostStatus{Host: "issuing.example", KeyType: "ECDSA", State: certmgr.StateIssuing,
		StateSince: now.Add(-4 * time.Second), Issuing: true, IssuingSince: now.Add(-4 * time.Second), Stage: audit.StageChallenge,
		Waiting: 3, Refused: 2}
	renewing := valid("renewing.example")
	renewing.Issuing, renewing.IssuingSince, renewing.Stage = true, now.Add(-2*time.Second), audit.StageFinalize
	expired := valid("expired.example")
	expired.State, expired.NotBefore, expired.NotAfter = certmgr.StateExpired, now.Add(-91*day), now.Add(-day)
	expired.StateSince, expired.RenewAt, expired.RenewalCause = expired.NotAfter, now.Add(-30*day), certmgr.RenewalCauseRetry
	backoff := failing(certmgr.HostStatus{Host: "backoff.example"}, certmgr.StateBackoff, 49*time.Minute,
		"first <cause>\nsecond & last")
	backoff.Refused, backoff.LastRequested = 12345, now.Add(-5*time.Hour)
	paused := failing(certmgr.HostStatus{Host: "paused.example", KeyType: "ECDSA"}, certmgr.StatePaused, 20*time.Hour, "paused by the CA")
	paused.Failure.State, paused.Failure.UnpauseURL = certmgr.StatePaused, "https://ca.example/unpause?jwt=a&b=c"
	rejected := failing(certmgr.HostStatus{Host: "rejected.example", KeyType: "ECDSA"}, certmgr.StateRejected, 21*time.Hour, "CAA")
	rejected.Failure.State = certmgr.StateRejected
	suggested := valid("valid.example")
	suggested.RenewalCause, suggested.ExplanationURL, suggested.LastRequested = certmgr.RenewalCauseCA, "https://ca.example/why?a=1&b=2", now
	late := failing(valid("late.example"), certmgr.StateValid, 21*time.Hour, "rate limited")
	late.RenewAt, late.RenewalCause = late.RetryAt, certmgr.RenewalCauseRetry
	s := &still{}
	s.snap = certmgr.Snapshot{Time: now, CA: caURL, Issuing: 1, Queued: 1, Waiting: 3, Refused: 4127, OrderBudget: 300, OrdersLeft: 212}
	s.snap.Hosts = []certmgr.HostStatus{
		backoff, expired, failing(certmgr.HostStatus{Host: "failed.example", KeyType: "RSA"}, certmgr.StateFailed,
			-time.Minute, "no route"),
		issuing, late, paused, rejected, renewing, suggested,
	}
	s.snap.RecentEvents = []audit.Event{
		{Seq: 7, Time: now.Add(-time.Hour), Kind: audit.IssuanceFailed, Host: "backoff.example",
			Stage: audit.StageChallenge, Duration: 3 * time.Second, RetryAt: now.Add(49 * time.Minute), Err: backoff.Failure},
		{Seq: 8, Time: now.Add(-time.Minute), Kind: audit.HandshakesRefused, Host: "backoff.example", Result: audit.ResultBackoff,
			Count: 57, Decision: audit.Refused, Rule: "Backoff", RemoteAddr: "192.0.2.7:1234"},
		{Seq: 9, Time: now.Add(-4 * time.Second), Kind: audit.IssuanceStarted, Host: "issuing.example",
			KeyType: "ECDSA", Reason: "a visitor"},
		{Seq: 10, Time: now, Kind: audit.HostListed, Host: "*.example.org", Reason: "new customer"},
	}
	s.nums = certmgr.Metrics{Time: now, Issued: 46, Handshakes: make(map[audit.Result]uint64),
		Failed: map[audit.Stage]uint64{audit.StageOrder: 0, audit.StageChallenge: 9}}
	for _, r := range audit.Results() {
		s.nums.Handshakes[r] = 0
	}
	s.nums.Handshakes[audit.ResultServed], s.nums.Handshakes[audit.ResultBackoff] = 1_000_000, 4127
	return s
}

// many returns n valid hosts, except that one in a hundred backs off.
func many(n int) *still {
	s := everyState()
	s.snap.Hosts = nil
	for i := range n {
		h := valid(fmt.Sprintf("host-%05d.example", i))
		h.NotAfter = h.NotAfter.Add(time.Duration(i%977) * time.Minute)
		if i%100 == 99 {
			h = failing(certmgr.HostStatus{Host: h.Host, KeyType: "ECDSA"}, certmgr.StateBackoff,
				time.Duration(i)*time.Second, "the CA says no")
		}
		s.snap.Hosts = append(s.snap.Hosts, h)
	}
	return s
}

// get requests target from a handler of s, as a browser does.
func get(t testing.TB, s status.Source, target string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	w := httptest.NewRecorder()
	status.Handler(s).ServeHTTP(w, r)
	return w
}
