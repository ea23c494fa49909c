package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// A flood of names that scanners make up costs one event a minute for each
// result and no memory, and clients are served as usual.
func TestFloodOfNamesIsCoalesced(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		before := len(w.events.of(audit.HandshakesRefused))
		const names = 100_000
		for i := range names {
			w.get(fmt.Sprintf("scan%d.example.net", i))
		}
		w.mustGet("a.example.com")
		refused := w.events.of(audit.HandshakesRefused)[before:]
		if len(refused) != 1 {
			t.Fatalf("%d events for %d refusals at one moment", len(refused), names)
		}
		e := refused[0]
		if e.Result != audit.ResultNotAllowed || e.Decision != audit.Refused || e.Rule != "Hosts" || e.Host != "scan0.example.net" || e.Count != 1 {
			t.Errorf("the event is %v", e)
		}
		time.Sleep(refusedEvery)
		w.get("one-more.example.net")
		refused = w.events.of(audit.HandshakesRefused)[before:]
		if len(refused) != 2 || refused[1].Count != names {
			t.Errorf("after a minute: %v; want one event more, with %d", refused, names)
		}
		if snap := w.m.Snapshot(); len(snap.Hosts) != 1 || snap.Refused != names+1 {
			t.Errorf("memory of %d hosts, %d refusals", len(snap.Hosts), snap.Refused)
		}
		if n := certmgr.WatchedHosts(w.m); n > 4 { // the list has 4
			t.Errorf("visits of %d hosts are kept", n)
		}
	})
}

// What was refused since the last event is told at the end.
func TestCloseReportsTheLastRefusals(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for range 5 {
			w.get("nobody.example.net")
		}
		w.m.Close()
		refused := w.events.of(audit.HandshakesRefused)
		if len(refused) != 2 || refused[0].Count+refused[1].Count != 5 {
			t.Errorf("events of 5 refusals: %v", refused)
		}
	})
}

// Each way in which a handshake can end is counted, and reported by itself: one
// cause does not hide behind another.
func TestEachEndOfAHandshakeIsCounted(t *testing.T) {
	steps := []struct {
		want audit.Result
		do   func(w *world)
	}{
		{audit.ResultServed, func(w *world) { w.get("a.example.com") }},
		{audit.ResultNoServerName, func(w *world) { w.get("") }},
		{audit.ResultBadServerName, func(w *world) { w.get("single") }},
		{audit.ResultNotAllowed, func(w *world) { w.get("nobody.example.org") }},
		{audit.ResultNoChallenge, func(w *world) {
			w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: "a.example.com", SupportedProtos: []string{"acme-tls/1"}})
		}},
		{audit.ResultFailed, func(w *world) {
			w.ca.FailValidation("b.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "wrong machine"})
			w.get("b.example.com")
		}},
		{audit.ResultBackoff, func(w *world) { w.get("b.example.com") }},
		{audit.ResultCacheFailed, func(w *world) {
			w.cache.get(func(context.Context, string) error { return errors.New("disk") })
			w.get("c.example.com")
			w.cache.get(nil)
		}},
		{audit.ResultInFlight, func(w *world) {
			w.m.HandshakeWait = -1
			fault := w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
			w.get("d.example.com")
			fault.Lift()
		}},
		{audit.ResultClosed, func(w *world) { w.m.Close(); w.get("c.example.com") }},
	}
	inBubble(t, func(t *testing.T, w *world) {
		for _, step := range steps {
			before := w.m.Metrics().Handshakes
			step.do(w)
			synctest.Wait()
			after := w.m.Metrics().Handshakes
			if after[step.want] == before[step.want] {
				t.Errorf("%s was not counted", step.want)
			}
			for r, n := range after {
				if r != step.want && n != before[r] && r != audit.ResultChallenge {
					t.Errorf("where %s should be counted, %s was", step.want, r)
				}
			}
		}
		if w.m.Metrics().Handshakes[audit.ResultChallenge] == 0 {
			t.Error("answered challenges are not counted")
		}
		seen := make(map[audit.Result]bool)
		for _, e := range w.events.of(audit.HandshakesRefused) {
			seen[e.Result] = true
			if e.Decision == "" || e.Rule == "" || e.Count == 0 {
				t.Errorf("an event without decision, rule or count: %v", e)
			}
		}
		for _, step := range steps[1:] {
			if !seen[step.want] {
				t.Errorf("%s has no event", step.want)
			}
		}
	})
}

func TestMetricsAreTheTruth(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.ca.FailValidation("b.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "wrong machine"})
		w.get("b.example.com")
		w.m.HandshakeWait = -1
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		w.get("c.example.com")
		synctest.Wait()
		v := w.m.Metrics()
		if v.Issued != 1 || v.Failed[audit.StageChallenge] != 1 || len(v.Failed) != len(audit.Stages()) || v.TimeToCertificate.Count() != 1 {
			t.Errorf("issuances: %+v", v)
		}
		if v.InFlight != 1 || v.BackingOff != 1 || v.Hosts[certmgr.StateValid] != 1 || v.Hosts[certmgr.StateBackoff] != 1 || v.Hosts[certmgr.StateIssuing] != 1 {
			t.Errorf("hosts: %+v", v)
		}
		if leaf := w.mustGet("a.example.com").Leaf; !v.SoonestExpiry.Equal(leaf.NotAfter) {
			t.Errorf("soonest expiry %v, want %v", v.SoonestExpiry, leaf.NotAfter)
		}
		if v.Events[audit.CertificateIssued] != 1 || v.Events[audit.IssuanceFailed] != 1 || len(v.Events) != len(audit.Kinds()) {
			t.Errorf("events: %v", v.Events)
		}
		orders := uint64(0)
		for _, c := range v.CARequests {
			if c.Endpoint == "newOrder" && c.Status == 201 {
				orders = c.Count
			}
		}
		if orders < 2 {
			t.Errorf("%d orders among the CA's requests: %v", orders, v.CARequests)
		}
	})
}

// Since when a host is as it is outlives renewals and further failures.
func TestSnapshotSaysSinceWhen(t *testing.T) {
	status := func(w *world, host string) certmgr.HostStatus {
		for _, st := range w.m.Snapshot().Hosts {
			if st.Host == host {
				return st
			}
		}
		return certmgr.HostStatus{}
	}
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		first := status(w, "a.example.com")
		if !first.StateSince.Equal(time.Now()) || first.RenewalCause != certmgr.RenewalCauseLifetime || first.LastRequested.IsZero() {
			t.Errorf("a new certificate: %+v", first)
		}
		time.Sleep(time.Hour) // the CA is asked
		if st := status(w, "a.example.com"); st.RenewalCause != certmgr.RenewalCauseCA {
			t.Errorf("renewed by %q, want the CA's suggestion", st.RenewalCause)
		}
		time.Sleep(80 * 24 * time.Hour)
		if st := status(w, "a.example.com"); !st.StateSince.Equal(first.StateSince) || !st.NotAfter.After(first.NotAfter) {
			t.Errorf("after a renewal it is valid since %v until %v, want since %v", st.StateSince, st.NotAfter, first.StateSince)
		}
		w.ca.FailValidation("b.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "wrong machine"})
		w.get("b.example.com")
		failed := time.Now()
		for range 3 {
			time.Sleep(2 * time.Hour)
			w.get("b.example.com")
		}
		st := status(w, "b.example.com")
		if st.State != certmgr.StateBackoff || !st.StateSince.Equal(failed) || st.Failure.Attempts < 2 || st.Refused != 4 {
			t.Errorf("backing off since %v, want %v: %+v", st.StateSince, failed, st)
		}
	})
}

// A failed validation holds for both key types; the attempt that follows is no
// host of its own.
func TestHostInFlightAfterAFailureIsOneRow(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.Resolve("a.example.com", acmetest.Target{})
		w.get("a.example.com")
		time.Sleep(3 * time.Minute)
		defer w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder}).Lift()
		go w.get("a.example.com")
		time.Sleep(time.Second)
		hosts, m := w.m.Snapshot().Hosts, w.m.Metrics()
		if len(hosts) != 1 || hosts[0].State != certmgr.StateIssuing || !hosts[0].Issuing || hosts[0].Failure == nil {
			t.Errorf("got %+v", hosts)
		}
		if m.Hosts[certmgr.StateIssuing] != 1 || m.Hosts[certmgr.StateFailed] != 0 {
			t.Errorf("metrics: %v", m.Hosts)
		}
	})
}
