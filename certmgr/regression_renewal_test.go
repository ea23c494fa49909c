package certmgr

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/pace"
)

// A CA that backdates its certificates by some hours, and sends windows of the past, is ordered from every few
// minutes: window.earliest is counted from notBefore, and not from when the certificate was issued.
func TestBackdatedCertificatesAndPastWindows(t *testing.T) {
	for _, back := range []time.Duration{2 * time.Hour, 12 * time.Hour, 5 * day} {
		t.Run(back.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.ca.EditCertificate("*", func(leaf *x509.Certificate) { leaf.NotBefore = time.Now().Add(-back) })
				w.ca.Respond(acmetest.Match{Endpoint: acmetest.RenewalInfo}, 200, nil, windowJSON("1990-01-01", "1990-01-02"))
				w.mustGet("a.example.com")
				time.Sleep(day)
				if n := w.orders("a.example.com"); n > 7 {
					t.Errorf("%d orders in a day, want a few", n)
				}
			})
		})
	}
}

// Client.RetryBackoff is the user's code. A panic in it while the CA is asked ends the process: ask calls it in the
// worker's own goroutine.
func TestPanicInRetryBackoffWhileAsking(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.restart()
		w.m.Client.RetryBackoff = func(int, *http.Request, *http.Response) time.Duration { panic("user's bug") }
		w.mustGet("a.example.com") // from the cache: no directory in memory
		w.ca.Status(acmetest.Match{Endpoint: acmetest.Directory}, 503, nil, acmetest.Problem{})
		time.Sleep(time.Hour)
	})
}

// The answer of a CA has no bound in memory and in events: the explanation is kept as it is, for each certificate.
func TestExplanationURLIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cert := w.mustGet("a.example.com")
		time.Sleep(day)
		w.ca.SetRenewalWindow(cert.Leaf, acmetest.RenewalWindow{Start: time.Now().Add(day), End: time.Now().Add(2 * day),
			ExplanationURL: "javascript:alert(1)\n" + strings.Repeat("x", 900_000)})
		time.Sleep(day)
		for _, e := range w.events.of(audit.RenewalWindowMoved) {
			if len(e.ExplanationURL) > 4096 || strings.Contains(e.ExplanationURL, "\n") {
				t.Errorf("an event has an explanation of %d bytes: %.40q", len(e.ExplanationURL), e.ExplanationURL)
			}
		}
	})
}

// After 429 with Retry-After the CA is asked sooner than it wants: jitter takes up to 10% off.
func TestRetryAfterOfRefusedQuestions(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.Status(acmetest.Match{Endpoint: acmetest.RenewalInfo}, 429, http.Header{"Retry-After": {"43200"}}, acmetest.Problem{})
		w.mustGet("a.example.com")
		time.Sleep(20 * day)
		var last time.Time
		early := 0
		for _, r := range w.ca.Requests() {
			if r.Endpoint != acmetest.RenewalInfo {
				continue
			}
			if !last.IsZero() && r.Time.Sub(last) < 12*time.Hour {
				early++
			}
			last = r.Time
		}
		if early > 0 {
			t.Errorf("%d questions came before Retry-After was over", early)
		}
	})
}

// Two Starts: the end of the first one's context ends what the second began.
func TestSecondStartSurvivesTheFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		down := w.ca.Drop(acmetest.Match{})
		first, cancel := context.WithCancel(t.Context())
		w.m.Start(first)
		time.Sleep(time.Minute)
		w.m.Hosts.Add("e.example.com")
		w.m.Start(t.Context())
		time.Sleep(time.Minute)
		cancel()
		time.Sleep(time.Minute)
		down()
		time.Sleep(2 * day)
		if n := len(w.ca.Issued()); n != 5 {
			t.Errorf("%d of 5 hosts have a certificate", n)
		}
	})
}

// "When ctx ends what Start began ends": an issuance that was under way is tried again for ever.
func TestStartThatEndedDoesNotTryAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.StuckProcessing("*.example.com")
		ctx, cancel := context.WithCancel(t.Context())
		w.m.Start(ctx)
		time.Sleep(30 * time.Second) // it is under way
		cancel()
		time.Sleep(10 * time.Minute) // it has ended
		orders := w.ca.Count(acmetest.NewOrder)
		time.Sleep(7 * day)
		if n := w.ca.Count(acmetest.NewOrder) - orders; n > 0 {
			t.Errorf("%d orders after the end of Start", n)
		}
	})
}

// The same for hosts whose cache entry could not be read.
func TestStartThatEndedForgetsHostsWithCacheTrouble(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.get(func(context.Context, string) error { return errors.New("disk on fire") })
		ctx, cancel := context.WithCancel(t.Context())
		w.m.Start(ctx)
		time.Sleep(30 * time.Second)
		cancel()
		synctest.Wait()
		w.cache.get(nil)
		time.Sleep(7 * day)
		if n := w.ca.Count(acmetest.NewOrder); n > 0 {
			t.Errorf("%d orders after the end of Start", n)
		}
	})
}

// A host that fails and is taken off the list keeps Start from ending, and from its last event.
func TestStartEndsWhenAFailingHostIsRemoved(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("d.example.com", "", acmetest.Problem{Type: "dns", Detail: "no such host"})
		w.m.Start(t.Context())
		time.Sleep(10 * day)
		w.m.Hosts.Remove("d.example.com")
		time.Sleep(10 * day)
		progress := w.events.of(audit.StartProgress)
		if last := progress[len(progress)-1]; last.Count != last.Total {
			t.Errorf("the last event of progress is %v", last)
		}
	})
}

// Renewal must not depend on a CA that cannot cope with "replaces": Pebble v2.10.1 answers 500 for one serial number in
// 256. The attempt that meets that succeeds, so that no failure is counted.
func TestRenewalWithoutReplacesIfTheCABreaks(t *testing.T) {
	for _, status := range []int{500, 405, 422, 501} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.ca.Edit(acmetest.Match{Endpoint: acmetest.NewOrder}, func(r *acmetest.Reply) {
					if strings.Contains(string(r.Payload), `"replaces"`) {
						r.SetProblem(acmetest.Problem{Type: "serverInternal", Status: status, Detail: "could not find an order"})
					}
				})
				first := w.mustGet("a.example.com")
				w.renewedAt("a.example.com", first, 90*day)
				if failed := w.events.of(audit.IssuanceFailed); len(failed) != 0 || w.m.Snapshot().CAFailure != nil {
					t.Errorf("the renewal failed at first: %v", failed)
				}
				begin := time.Now()
				if err := w.m.Renew(t.Context(), "a.example.com"); err != nil || time.Since(begin) > 5*time.Second {
					t.Errorf("Renew after %v: %v", time.Since(begin), err)
				}
				open := 0
				for _, o := range w.ca.Orders() {
					if o.InFlight() {
						open++
					}
				}
				if open > 2 { // which the CA made and denied, one a renewal
					t.Errorf("%d orders are left open\n%v", open, w.ca)
				}
			})
		})
	}
}

// A rate limit is what saying so spares an order, also the one after the refusal.
func TestOrderAfterARateLimitStillReplaces(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		first := w.mustGet("a.example.com")
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, http.StatusTooManyRequests,
			http.Header{"Retry-After": {"7200"}}, acmetest.Problem{Type: "rateLimited"})
		w.renewedAt("a.example.com", first, 90*day)
		if o := w.ca.Orders()[1]; o.Replaces != acmetest.CertID(first.Leaf) || len(w.events.of(audit.IssuanceFailed)) != 1 {
			t.Errorf("the order replaces %q after %v", o.Replaces, w.events.of(audit.IssuanceFailed))
		}
	})
}

// A CA that breaks the connection over it says nothing of why: the next attempt goes without.
func TestNextAttemptWithoutReplacesIfTheCAIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.Edit(acmetest.Match{Endpoint: acmetest.NewOrder}, func(r *acmetest.Reply) {
			r.Drop = strings.Contains(string(r.Payload), `"replaces"`)
		})
		first := w.mustGet("a.example.com")
		w.renewedAt("a.example.com", first, 90*day)
		if failed := w.events.of(audit.IssuanceFailed); len(failed) != 1 {
			t.Errorf("%d attempts failed, want 1: %v", len(failed), failed)
		}
	})
}

// Clock jumps back: what was planned by the clock that was ahead holds everything back.
func TestClockThatWasAheadForAnHour(t *testing.T) {
	for _, ahead := range []time.Duration{60 * day, 20 * day} {
		t.Run(ahead.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				var skew atomic.Int64
				w.m.clock = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
				first := w.mustGet("a.example.com")
				time.Sleep(50 * day)
				skew.Store(int64(ahead))
				lift := w.ca.Drop(acmetest.Match{}) // TLS to the CA fails with such a clock
				time.Sleep(2 * time.Hour)
				skew.Store(0)
				lift()
				time.Sleep(time.Hour)
				if _, err := w.get("b.example.com"); err != nil {
					t.Errorf("a new host cannot be issued for, an hour after the clock was set right: %v", err)
				}
				asked := w.asks()
				time.Sleep(10 * day)
				if n := w.asks() - asked; n < 15 {
					t.Errorf("the CA was asked %d times in 10 days", n)
				}
				time.Sleep(20 * day)
				if cert, err := w.get("a.example.com"); err != nil || cert.Leaf.Equal(first.Leaf) {
					t.Errorf("not renewed 10 days before its end: %v %v", err, w.m.Snapshot().Hosts[0])
				}
			})
		})
	}
}

// A question that meets a certificate which looks expired, since the clock is ahead, is the last one.
func TestQuestionsGoOnAfterAClockThatWasAhead(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var skew atomic.Int64
		w.m.clock = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
		w.mustGet("a.example.com")
		time.Sleep(10 * day)
		lift := w.ca.Drop(acmetest.Match{Endpoint: acmetest.NewOrder})
		skew.Store(int64(85 * day))
		time.Sleep(20 * time.Minute)
		skew.Store(0)
		lift()
		time.Sleep(day)
		asked := w.asks()
		time.Sleep(5 * day)
		if n := w.asks() - asked; n < 10 {
			t.Errorf("the CA was asked %d times in 5 days", n)
		}
	})
}

// renewal_late says that Err is the last failure: there is none if the cache is what fails.
func TestLateEventSaysWhy(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cert := w.mustGet("a.example.com")
		w.cache.get(func(context.Context, string) error { return errors.New("disk on fire") })
		time.Sleep(time.Until(cert.Leaf.NotAfter))
		for _, e := range w.events.of(audit.RenewalLate) {
			if e.Err == nil || e.RetryAt.IsZero() {
				t.Errorf("no reason: %v", e)
			}
		}
	})
}

// A host that is not allowed any more causes no traffic (invariant 5).
func TestNoQuestionsForAHostThatIsNotAllowed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HostPolicy = func(context.Context, string) error { return errors.New("no") }
		w.mustGet("a.example.com")
		w.m.Hosts.Remove("a.example.com")
		time.Sleep(20 * day)
		if n := w.asks(); n > 0 {
			t.Errorf("the CA was asked %d times", n)
		}
	})
}

// A window without a start counts as one from year 1 on: an answer that is damaged makes orders.
func TestWindowWithoutAStart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.Respond(acmetest.Match{Endpoint: acmetest.RenewalInfo}, 200, nil, `{"suggestedWindow":{"end":"2000-03-01T00:00:00Z"}}`)
		w.mustGet("a.example.com")
		time.Sleep(2 * day)
		if n := w.orders("a.example.com"); n > 1 {
			t.Errorf("%d orders because of a window without a start", n)
		}
	})
}

// Time that Start takes for many registered domains.
func BenchmarkStartPaceOfManyDomains(b *testing.B) {
	for range b.N {
		p := &startPace{every: pace.OrderEvery}
		now := time.Now()
		for i := range 30_000 {
			p.next(fmt.Sprintf("www.d%d.com", i), paceNone, now)
		}
	}
}
