package certmgr_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// asked returns when the CA got requests to an endpoint, from the beginning of
// the test.
func (w *world) asked(e acmetest.Endpoint) (at []time.Duration) {
	for _, r := range w.ca.Requests() {
		if r.Endpoint == e {
			at = append(at, r.Time.Sub(w.ca.Requests()[0].Time))
		}
	}
	return at
}

// visitFor has a visitor for host each second.
func (w *world) visitFor(d time.Duration, host string) (err error) {
	for begin := time.Now(); time.Since(begin) < d; time.Sleep(time.Second) {
		_, err = w.get(host)
	}
	return err
}

// The CA is probed every 5 s at first, later every 30 s and every 5 min, with
// 30 percent of jitter.
func TestPaceOfProbes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Drop(acmetest.Match{Endpoint: acmetest.Directory})
		w.visitFor(3*time.Hour, "a.example.com")
		at := w.asked(acmetest.Directory)[1:] // the attempt has two
		every := func(age time.Duration) time.Duration {
			switch {
			case age >= 15*time.Minute:
				return 5 * time.Minute
			case age >= 2*time.Minute:
				return 30 * time.Second
			}
			return 5 * time.Second
		}
		for i, when := range at[1:] {
			gap, age := when-at[i], at[i]
			// The outage began up to a second after the first request.
			least, most := every(age-time.Second)*7/10, every(age)*13/10
			if gap < least-time.Second || gap > most+time.Second {
				t.Errorf("%v after %v, want %v to %v", gap, age, least, most)
			}
		}
		if n := len(at); n < 60 || n > 120 {
			t.Errorf("%d probes in 3 hours", n)
		}
	})
}

// Nobody asks the CA before the end of a Retry-After, of an order or of a probe.
func TestProbesWaitForRetryAfter(t *testing.T) {
	for _, failures := range []int{1, 3} {
		t.Run(fmt.Sprint(failures), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.HandshakeWait = -1
				plain := w.ca.Status(acmetest.Match{Endpoint: acmetest.Directory}, 503, nil, acmetest.Problem{})
				if failures > 1 {
					w.visitFor(12*time.Second, "a.example.com")
				}
				plain.Lift()
				w.ca.Status(acmetest.Match{Endpoint: acmetest.Directory}, 503, http.Header{"Retry-After": {"600"}}, acmetest.Problem{})
				w.visitFor(8*time.Second, "a.example.com")
				n := w.ca.Count(acmetest.Any)
				if left := time.Until(w.m.Snapshot().CAUnavailable); left < 580*time.Second {
					t.Fatalf("the next attempt is due in %v, the CA asked for 600 s", left)
				}
				w.visitFor(580*time.Second, "a.example.com")
				if more := w.ca.Count(acmetest.Any) - n; more != 0 {
					t.Errorf("%d requests before the end of the Retry-After", more)
				}
				w.visitFor(20*time.Second, "a.example.com")
				if w.ca.Count(acmetest.Any) == n {
					t.Error("no request after it")
				}
			})
		})
	}
}

// A CA that nobody waits for is left alone, and the next visitor finds out in
// its own handshake whether it is back.
func TestNobodyWaitsNobodyProbes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		fault := w.ca.Drop(acmetest.Match{})
		w.visitFor(10*time.Second, "a.example.com")
		time.Sleep(2 * time.Minute)
		n := w.ca.Count(acmetest.Any)
		time.Sleep(10 * day)
		if more := w.ca.Count(acmetest.Any) - n; more != 0 {
			t.Errorf("%d requests although nobody waits", more)
		}
		w.get("b.example.com")
		time.Sleep(time.Second)
		w.wantErr("b.example.com", certmgr.ErrCAUnavailable)
		time.Sleep(day)
		fault.Lift()
		n = w.ca.Count(acmetest.Any)
		if w.m.Snapshot().CAUnavailable.IsZero() {
			t.Error("the outage was over before anyone asked")
		}
		w.get("a.example.com")
		time.Sleep(time.Second)
		w.mustGet("a.example.com")
		if more := w.ca.Count(acmetest.Any) - n; more > 12 {
			t.Errorf("%d requests for one certificate", more)
		}
	})
}

// The first visitor after a while without any gets a certificate at once if the
// CA is back.
func TestVisitorProbesIfNobodyElseDoes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		fault := w.ca.Drop(acmetest.Match{})
		w.get("a.example.com")
		time.Sleep(day)
		w.get("a.example.com")
		w.wantErr("a.example.com", certmgr.ErrCAUnavailable)
		time.Sleep(day)
		fault.Lift()
		w.mustGet("a.example.com")
	})
}

// A host whose visitors were refused gets its certificate when the CA is back,
// even if they do not come again. So does every other one.
func TestCertificateComesWithoutAnotherVisit(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		fault := w.ca.Drop(acmetest.Match{})
		for _, host := range []string{"a.example.com", "b.example.com", "c.example.com"} {
			w.get(host)
			time.Sleep(time.Second)
		}
		time.Sleep(20 * time.Second)
		fault.Lift()
		time.Sleep(15 * time.Second)
		for _, host := range []string{"a.example.com", "b.example.com", "c.example.com"} {
			if certmgr.InMemory(w.m, host) == 0 {
				t.Errorf("%s has no certificate", host)
			}
		}
		if certmgr.InMemory(w.m, "d.example.com") != 0 {
			t.Error("a host has one that nobody asked for")
		}
	})
}

// Hosts of a Start wait for the CA too, and do not depend on visitors.
func TestStartWaitsForTheCA(t *testing.T) {
	for _, lasts := range []time.Duration{time.Minute, 10 * time.Minute, time.Hour} {
		t.Run(lasts.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				fault := w.ca.Drop(acmetest.Match{})
				if err := w.m.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(lasts)
				fault.Lift()
				time.Sleep(promised(acmetest.Any, lasts))
				for host := range w.m.Hosts.All() {
					if certmgr.InMemory(w.m, host) == 0 {
						t.Errorf("%s has no certificate", host)
					}
				}
			})
		})
	}
}

// The orders of an outage go around: a host that cannot get a certificate does
// not keep the others from ending it.
func TestNextOrderIsAnotherHosts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		hosts := []string{"a.example.com", "b.example.com", "c.example.com"}
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewAccount}, 500, nil, acmetest.Problem{})
		begin := time.Now()
		for time.Since(begin) < 4*time.Minute {
			for _, host := range hosts {
				w.get(host)
			}
			time.Sleep(time.Second)
		}
		tried := make(map[string]int)
		for _, e := range w.events.of(audit.IssuanceStarted) {
			tried[e.Host]++
		}
		for _, host := range hosts {
			if n := tried[host]; n < 2 || n > 3 {
				t.Errorf("%d attempts for %s, want them to go around: %v", n, host, tried)
			}
		}
		fault.Lift()
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "a.example.com"}, 500, nil, acmetest.Problem{})
		time.Sleep(3 * time.Minute)
		w.mustGet("b.example.com")
		w.mustGet("c.example.com")
	})
}

// However many hosts wait, the CA gets the same few requests.
func TestManyWaitersHaveOneProber(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		const hosts = 10_000
		w.m.HandshakeWait = -1
		names := make([]string, hosts)
		for i := range names {
			names[i] = fmt.Sprintf("www.example%d.com", i)
		}
		w.m.Hosts.Replace(names...)
		w.ca.Drop(acmetest.Match{})
		w.get(names[0])
		time.Sleep(time.Second)
		before := w.ca.Count(acmetest.Any)
		for i := 0; i < 3600; i++ {
			for j := range 10 {
				w.wantErr(names[(10*i+j)%hosts], certmgr.ErrCAUnavailable)
			}
			time.Sleep(time.Second)
		}
		_, most := mostInOutage(time.Hour)
		if n := w.ca.Count(acmetest.Any) - before; n > most {
			t.Errorf("%d requests in an hour, want %d at most", n, most)
		}
	})
}

// A day without newOrder, with a visitor every 10 s: few orders, however many
// hosts wait.
func TestDayWithoutOrders(t *testing.T) {
	t.Parallel()
	for _, hosts := range []int{1, 20} {
		t.Run(fmt.Sprint(hosts), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.HandshakeWait = -1
				names := make([]string, hosts)
				for i := range names {
					names[i] = fmt.Sprintf("host%d.example.com", i) // of one domain
				}
				w.m.Hosts.Replace(names...)
				w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 500, nil, acmetest.Problem{})
				for begin := time.Now(); time.Since(begin) < day; time.Sleep(time.Duration(hosts) * 10 * time.Second) {
					for _, host := range names {
						w.get(host)
					}
				}
				attempts, probes := mostInOutage(day)
				if n, most := len(w.events.of(audit.IssuanceStarted)), hosts+attempts; n > most {
					t.Errorf("%d attempts, want %d at most", n, most)
				}
				if n := w.ca.Count(acmetest.NewNonce) + w.ca.Count(acmetest.Directory); n > probes+4*(hosts+attempts) {
					t.Errorf("%d requests for nonces and the directory", n)
				}
			})
		})
	}
}

// A network that is gone is not the first host's failure, although that has all
// that it needs to place an order.
func TestLostNetworkIsNoHostsFailure(t *testing.T) {
	for _, kind := range outageKinds() {
		t.Run(kind.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.HandshakeWait = -1
				if err := w.m.Obtain(t.Context(), "a.example.com"); err != nil { // directory, account, nonces
					t.Fatal(err)
				}
				fault := kind.begin(w.ca, acmetest.Match{})
				err := w.visitFor(95*time.Second, "b.example.com")
				if !errors.Is(err, certmgr.ErrCAUnavailable) {
					t.Errorf("a visitor got %v", err)
				}
				if _, err := w.get("c.example.com"); !errors.Is(err, certmgr.ErrCAUnavailable) {
					t.Errorf("a visitor of another host got %v", err)
				}
				fault.Lift()
				time.Sleep(15 * time.Second)
				for _, host := range []string{"b.example.com", "c.example.com"} {
					if _, err := w.get(host); err != nil {
						t.Errorf("%s: %v", host, err)
					}
				}
			})
		})
	}
}

// The CA's failures and those of a host are counted apart.
func TestFailuresOfTheCADoNotLengthenABackoff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 500, nil, acmetest.Problem{Type: "serverInternal"})
		w.visitFor(5*time.Minute, "a.example.com")
		fault.Lift()
		fault = w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection"})
		last := func() audit.Event {
			failed := w.events.of(audit.IssuanceFailed)
			return failed[len(failed)-1]
		}
		for begin := time.Now(); last().Stage == audit.StageOrder && time.Since(begin) < 75*time.Second; {
			w.visitFor(time.Second, "a.example.com")
		}
		if e := last(); e.Stage != audit.StageChallenge || e.Count < 5 {
			t.Fatalf("the last failure is %v", e)
		}
		if d := last().RetryAt.Sub(last().Time); d > 66*time.Second {
			t.Errorf("after the first failure of its own the host backs off for %v", d)
		}
		fault.Lift()
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 500, nil, acmetest.Problem{Type: "serverInternal"})
		w.visitFor(70*time.Second, "a.example.com")
		if d := last().RetryAt.Sub(last().Time); last().Stage != audit.StageOrder || d > 20*time.Second {
			t.Errorf("after a failure of the CA the host backs off for %v: %v", d, last())
		}
	})
}

// A renewal that the CA fails has time, but is tried when the certificate ends:
// visitors must not wait for its long backoff.
func TestRenewalIsTriedWhenTheCertificateEnds(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		if err := w.m.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		end := w.m.Snapshot().Hosts[0].NotAfter
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 500, nil, acmetest.Problem{Type: "serverInternal"})
		time.Sleep(time.Until(end) - time.Minute)
		if n := len(w.events.of(audit.IssuanceStarted)); n > 80 {
			t.Errorf("%d attempts in the month before the end", n)
		}
		w.visitFor(10*time.Minute, "a.example.com")
		fault.Lift()
		w.visitFor(7*time.Minute, "a.example.com")
		w.mustGet("a.example.com")
	})
}

// When the CA is back, hosts that it had failed before it was given up are free
// at once.
func TestHostsAreFreeWhenTheCAIsBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.m.Hosts.Add("a.example.net", "a.example.org", "a.example.edu")
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.Finalize}, 500, nil, acmetest.Problem{Type: "serverInternal"})
		w.visitFor(20*time.Minute, "a.example.net") // alone: it backs off for 5 min
		for w.retryAt("a.example.net").Before(time.Now().Add(4 * time.Minute)) {
			w.visitFor(time.Second, "a.example.net")
		}
		for _, host := range []string{"a.example.org", "a.example.edu", "b.example.com"} {
			w.get(host)
		}
		time.Sleep(time.Minute)
		w.wantErr("d.example.com", certmgr.ErrCAUnavailable)
		fault.Lift()
		if err := w.m.Obtain(t.Context(), "b.example.com"); err != nil {
			t.Fatal(err)
		}
		w.get("a.example.net")
		time.Sleep(time.Second)
		w.mustGet("a.example.net")
	})
}

// retryAt returns when a host that has failed is tried again.
func (w *world) retryAt(host string) time.Time {
	for _, h := range w.m.Snapshot().Hosts {
		if h.Host == host {
			return h.RetryAt
		}
	}
	return time.Time{}
}
