package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
)

// A wait is no failure: it uses up no attempts, no orders, no backoff and no turn of
// Start, and the first failure after it counts as the first.
func TestWaitForDNSIsNoFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.waitingForDNS()
		w.m.OrderBudget = 10
		for range 20 {
			if err := w.m.Obtain(t.Context(), "a.example.com"); !errors.Is(err, certmgr.ErrUnreachable) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if left := w.m.Snapshot().OrdersLeft; left != 10 {
			t.Errorf("%d orders left", left)
		}
		if m := w.m.Metrics(); m.BackingOff != 0 || m.Failed[audit.StagePreflight] != 0 {
			t.Errorf("%d back off, failed: %v", m.BackingOff, m.Failed)
		}
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "no"})
		w.leadsHere(p)
		time.Sleep(10 * time.Minute)
		st := w.state()
		if st.State != certmgr.StateBackoff && st.State != certmgr.StateFailed || st.Failure == nil || st.Failure.Stage != audit.StageChallenge {
			t.Errorf("got %+v", st)
		}
		if first := w.events.of(audit.IssuanceFailed); len(first) == 0 || first[0].Count != 1 {
			t.Errorf("got %v", first)
		}
	})
}

// Obtain and Renew probe at once, and order what leads here.
func TestOperatorProbesAtOnce(t *testing.T) {
	for _, call := range []func(m *certmgr.Manager, ctx context.Context, host string) error{(*certmgr.Manager).Obtain, (*certmgr.Manager).Renew} {
		inBubble(t, func(t *testing.T, w *world) {
			p := w.waitingForDNS()
			w.get("a.example.com")
			time.Sleep(2 * time.Hour)
			p.take()
			if err := call(w.m, t.Context(), "a.example.com"); !errors.Is(err, certmgr.ErrUnreachable) {
				t.Error(err)
			}
			if n := len(p.take()); n != 1 {
				t.Errorf("%d probes", n)
			}
			w.leadsHere(p)
			if err := call(w.m, t.Context(), "a.example.com"); err != nil {
				t.Error(err)
			}
			p.take()
			time.Sleep(3 * time.Hour)
			if n := len(p.take()); n != 0 || len(w.events.of(audit.DNSWaitEnded)) != 1 {
				t.Errorf("%d probes afterwards", n)
			}
			w.wantOrders("a.example.com", 1)
		})
	}
}

// A name that no longer leads here is renewed when it does again. Until then its
// certificate is served, and that its renewal is late is told.
func TestRenewalWaitsForDNS(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		p := w.waitingForDNS()
		w.leadsHere(p)
		first := w.mustGet("a.example.com").Leaf
		p.name("a.example.com", "192.0.2.7")
		time.Sleep(time.Until(first.NotAfter) - 6*day)
		w.mustGet("a.example.com")
		st := w.state()
		if st.State != certmgr.StateValid || st.Failure == nil || st.Failure.State != certmgr.StateWaitingForDNS || len(w.events.of(audit.WaitingForDNS)) != 1 {
			t.Fatalf("got %+v", st)
		}
		w.wantOrders("a.example.com", 1)
		time.Sleep(4 * day)
		if late := w.events.of(audit.RenewalLate); len(late) == 0 || !errors.Is(late[0].Err, certmgr.ErrUnreachable) {
			t.Errorf("got %v", late)
		}
		p.take()
		time.Sleep(day)
		if n := len(p.take()); n < 23 || n > 26 {
			t.Errorf("%d probes in a day", n)
		}
		w.leadsHere(p)
		time.Sleep(time.Hour + time.Minute)
		if w.mustGet("a.example.com").Leaf.Equal(first) {
			t.Error("not renewed")
		}
	}, func(ca *acmetest.Server) { ca.Lifetime = 20 * day })
}

// The renewals of both of a host's key types wait, and both are renewed. The host is not
// probed twice for that.
func TestRenewalOfBothKeyTypesWaits(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		p := w.waitingForDNS()
		w.leadsHere(p)
		first := w.mustGet("a.example.com").Leaf
		rsa := &tls.ClientHelloInfo{ServerName: "a.example.com", SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256}}
		if _, err := w.m.GetCertificate(rsa); err != nil {
			t.Fatal(err)
		}
		p.name("a.example.com", "192.0.2.7")
		time.Sleep(time.Until(first.NotAfter) - 6*day)
		p.take()
		time.Sleep(day)
		if n := len(p.take()); n < 23 || n > 26 {
			t.Errorf("%d probes in a day", n)
		}
		w.leadsHere(p)
		time.Sleep(time.Hour + time.Minute)
		if n := len(w.ca.IssuedFor("a.example.com")); n != 4 {
			t.Errorf("%d certificates, want 4", n)
		}
	}, func(ca *acmetest.Server) { ca.Lifetime = 20 * day })
}

// After 7 days of waiting an entry is stale, whatever StaleHosts is asked for, and over
// restarts.
func TestNameThatWaitsForAWeekIsStale(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		p := w.waitingForDNS()
		w.get("a.example.com")
		stale := func() (found certmgr.StaleHost, ok bool) {
			for _, h := range w.m.StaleHosts(0) {
				if h.Entry == "a.example.com" {
					return h, true
				}
			}
			return found, false
		}
		time.Sleep(3*day + 2*time.Hour)
		w.restart()
		w.usePreflight(p.internet, preflight.Enforce)
		w.m.PreflightResolver = p
		w.m.Start(t.Context())
		time.Sleep(4*day - 3*time.Hour)
		if h, ok := stale(); ok {
			t.Fatalf("stale too soon: %+v", h)
		}
		time.Sleep(time.Hour + time.Minute)
		h, ok := stale()
		if !ok || !strings.Contains(h.Reason, "it does not lead here since 2000-01-01") || !strings.Contains(h.Reason, "192.0.2.7") || h.Failure == nil {
			t.Fatalf("got %v, %+v", ok, h)
		}
		if st := w.state(); !st.StateSince.Equal(p.began) {
			t.Errorf("waits since %v", st.StateSince)
		}
		p.listen("192.0.2.1:443", serveTLS(w.m.TLSConfig(), nil))
		w.leadsHere(p)
		time.Sleep(time.Hour)
		if h, ok := stale(); ok {
			t.Errorf("still stale: %+v", h)
		}
		p.name("a.example.com", "192.0.2.7")
		time.Sleep(10 * day)
		if h, ok := stale(); ok && strings.Contains(h.Reason, "lead") {
			t.Errorf("stale by the wait that ended: %+v", h)
		}
	})
}

// A restart probes listed names again, by Start or for the first visitor.
func TestWaitForDNSSurvivesARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.waitingForDNS()
		w.get("a.example.com")
		time.Sleep(2 * time.Hour)
		w.restart()
		w.usePreflight(p.internet, preflight.Enforce)
		w.m.PreflightResolver = p
		w.m.Start(t.Context())
		time.Sleep(time.Second)
		if st := w.state(); st.State != certmgr.StateWaitingForDNS {
			t.Errorf("got %+v", st)
		}
		p.listen("192.0.2.1:443", serveTLS(w.m.TLSConfig(), nil))
		w.leadsHere(p)
		time.Sleep(30 * time.Second)
		w.mustGet("a.example.com")
	})
}

// The wait ends with the entry on the list, and Close ends all.
func TestWaitForDNSEndsWithTheEntry(t *testing.T) {
	for name, end := range map[string]func(m *certmgr.Manager){
		"Remove":                  func(m *certmgr.Manager) { m.Hosts.Remove("a.example.com") },
		"Replace":                 func(m *certmgr.Manager) { m.Hosts.Replace("b.example.com") },
		"a wildcard in its place": func(m *certmgr.Manager) { m.Hosts.Replace("*.example.com") },
		"Close":                   func(m *certmgr.Manager) { m.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := w.waitingForDNS()
				w.get("a.example.com")
				time.Sleep(time.Minute)
				end(w.m)
				p.take()
				time.Sleep(2 * time.Hour)
				if n := len(p.take()); n != 0 {
					t.Errorf("%d probes", n)
				}
				if n := w.m.Metrics().Hosts[certmgr.StateWaitingForDNS]; n != 0 && name != "Close" {
					t.Errorf("%d hosts wait", n)
				}
			})
		})
	}
}

// A name that is listed again while it waits is probed soon.
func TestListingAgainProbes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.waitingForDNS()
		w.get("a.example.com")
		time.Sleep(2*time.Hour + time.Minute)
		p.take()
		w.m.Hosts.Add("a.example.com")
		time.Sleep(time.Second)
		if n := len(p.take()); n != 1 {
			t.Errorf("%d probes", n)
		}
	})
}

// Names that are not on the list by themselves fail and back off, as ever; and so do all
// with a check that does not enforce, or that is inconclusive.
func TestOnlyListedNamesWaitForDNS(t *testing.T) {
	for name, set := range map[string]func(w *world, p *probes){
		"wildcard": func(w *world, _ *probes) { w.m.Hosts = certmgr.MustAllowlist("*.example.com") },
		"policy":   func(w *world, _ *probes) { w.m.Hosts, w.m.HostPolicy = nil, certmgr.AllowAnyHost },
		"report":   func(w *world, _ *probes) { w.m.Preflight = preflight.Report },
		"undecided": func(_ *world, p *probes) {
			p.resolve(func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no resolver") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := w.waitingForDNS()
				set(w, p)
				w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "no"})
				if _, err := w.get("a.example.com"); err == nil {
					t.Fatal("issued")
				}
				if st := w.state(); st.State != certmgr.StateBackoff {
					t.Errorf("got %+v", st)
				}
				if n := len(w.events.of(audit.WaitingForDNS)); n != 0 {
					t.Errorf("%d events", n)
				}
			})
		})
	}
}

// A resolver that fails says nothing: the name still waits, and nothing is ordered. That
// a name does not exist is an answer.
func TestProbeThatIsInconclusiveEndsNoWait(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.waitingForDNS()
		p.resolve(func(_ context.Context, host string) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		})
		w.get("a.example.com")
		if st := w.state(); st.State != certmgr.StateWaitingForDNS || !strings.Contains(st.Failure.Error(), "has no address in DNS") {
			t.Fatalf("got %+v", st)
		}
		p.resolve(func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no resolver") })
		time.Sleep(3 * time.Hour)
		if st := w.state(); st.State != certmgr.StateWaitingForDNS || !st.RetryAt.After(time.Now()) {
			t.Fatalf("got %+v", st)
		}
		w.wantOrders("a.example.com", 0)
		p.resolve(nil)
		w.leadsHere(p)
		time.Sleep(time.Hour)
		w.mustGet("a.example.com")
	})
}

// A certificate that another machine leaves in the Cache is found by the next visitor.
func TestCertificateOfAnotherMachineEndsTheWait(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.waitingForDNS()
		w.get("a.example.com")
		other := w.manager()
		defer other.Close()
		w.ca.Resolve("*", acmetest.Target{TLSConfig: other.TLSConfig()})
		time.Sleep(time.Minute)
		if err := other.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.wantErr("a.example.com", certmgr.ErrBackoff) // which has the Cache read
		time.Sleep(time.Second)
		w.mustGet("a.example.com")
		if st := w.state(); st.Failure != nil || len(w.events.of(audit.DNSWaitEnded)) != 1 {
			t.Errorf("got %+v", st)
		}
	})
}

// Attempts that end in a wait are not counted: a name that is listed again and again
// still waits, and does not back off.
func TestAttemptsThatEndInAWaitDoNotCount(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.waitingForDNS()
		for i := range 8 {
			_, err := w.get("a.example.com")
			if st := w.state(); st.State != certmgr.StateWaitingForDNS {
				t.Fatalf("%d: %v", i, err)
			}
			w.m.Hosts.Remove("a.example.com")
			time.Sleep(time.Second)
			w.m.Hosts.Add("a.example.com")
		}
	})
}
