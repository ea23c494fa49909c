package certmgr_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// shortlived is inBubble with certificates of 160 hours.
func shortlived(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Profile = "shortlived"
		f(t, w)
	}, withProfiles)
}

// A certificate of 160 hours whose renewal fails is tried again every two hours
// or so until it ends, and is reported as late twice before.
func TestShortLivedCertificateIsTriedOften(t *testing.T) {
	shortlived(t, func(t *testing.T, w *world) {
		leaf := w.mustGet("a.example.com").Leaf
		fault := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection"})
		time.Sleep(time.Until(leaf.NotAfter) - 3*time.Hour)
		w.mustGet("a.example.com")
		failed := w.events.of(audit.IssuanceFailed)
		if len(failed) < 45 || len(failed) > 70 {
			t.Errorf("%d attempts", len(failed))
		}
		for i, e := range failed[1:] {
			if gap := e.Time.Sub(failed[i].Time); gap > 2*time.Hour+5*time.Minute {
				t.Errorf("after failure %d: a gap of %s", i+1, gap)
			}
		}
		if n := len(w.events.of(audit.RenewalLate)); n != 2 {
			t.Errorf("it was reported %d times", n)
		}
		fault.Lift()
		time.Sleep(2*time.Hour + 10*time.Minute)
		if now := w.mustGet("a.example.com").Leaf; now.Equal(leaf) {
			t.Error("it was not renewed when that was possible again")
		}
	})
}

// A host whose certificate has ended is tried as any other without one.
func TestShortLivedCertificateThatEndedIsNotTriedOften(t *testing.T) {
	shortlived(t, func(t *testing.T, w *world) {
		leaf := w.mustGet("a.example.com").Leaf
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection"})
		time.Sleep(time.Until(leaf.NotAfter) + 3*time.Hour)
		before := len(w.events.of(audit.IssuanceFailed))
		time.Sleep(10 * day)
		if n := len(w.events.of(audit.IssuanceFailed)) - before; n < 9 || n > 12 {
			t.Errorf("%d attempts in 10 days", n)
		}
	})
}

// Outages of a day, at any time and as often as every 4 days, cost no host of
// certificates of 160 hours its service, and not one order too many.
func TestShortLivedCertificatesSurviveOutagesOfADay(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		if !runsRow(int(seed), 3) {
			continue
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			shortlived(t, func(t *testing.T, w *world) {
				rng := rand.New(rand.NewPCG(seed, 0))
				kinds := outageKinds()
				hosts := []string{"a.example.com", "b.example.com"}
				for _, host := range hosts {
					w.mustGet(host)
				}
				began := time.Now()
				for range 12 {
					watch := func(lasts time.Duration) {
						for end := time.Now().Add(lasts); time.Now().Before(end); time.Sleep(time.Hour) {
							for _, host := range hosts {
								w.mustGet(host)
							}
						}
					}
					watch(3*day + time.Duration(rng.Int64N(int64(3*day))))
					endpoints := outageEndpoints()
					endpoint, kind := endpoints[rng.IntN(len(endpoints))], kinds[rng.IntN(len(kinds))]
					fault := kind.begin(w.ca, acmetest.Match{Endpoint: endpoint})
					watch(day)
					fault.Lift()
				}
				most := len(hosts) * (int(time.Since(began)/(65*time.Hour)) + 2)
				if n := len(w.ca.Issued()); n > most {
					t.Errorf("%d certificates in %s, want at most %d", n, time.Since(began).Round(time.Hour), most)
				}
			})
		})
	}
}
