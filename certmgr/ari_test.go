package certmgr_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// asks returns how often the CA was asked when to renew.
func (w *world) asks() int { return w.ca.Count(acmetest.RenewalInfo) }

// renewedAt sleeps until host has another certificate than cert, for at most the
// given time, and returns when that was, within an hour.
func (w *world) renewedAt(host string, cert *tls.Certificate, most time.Duration) time.Time {
	w.t.Helper()
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(time.Hour) {
		if !w.mustGet(host).Leaf.Equal(cert.Leaf) {
			return time.Now()
		}
	}
	w.t.Fatalf("%s was not renewed within %v", host, most)
	return time.Time{}
}

func TestRenewsInTheWindowOfTheCA(t *testing.T) {
	t.Parallel()
	for _, start := range []time.Duration{3 * day, 30 * day, 70 * day} {
		t.Run(start.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				cert := w.mustGet("a.example.com")
				window := acmetest.RenewalWindow{Start: time.Now().Add(start), End: time.Now().Add(start + 2*day)}
				w.ca.SetRenewalWindow(cert.Leaf, window)
				at := w.renewedAt("a.example.com", cert, 90*day)
				if at.Before(window.Start) || at.After(window.End.Add(time.Hour)) {
					t.Errorf("renewed on %v, want %v to %v", at, window.Start, window.End)
				}
				issuing := w.events.of(audit.IssuanceStarted)
				if want := "in the CA's suggested window"; !strings.Contains(issuing[1].Reason, want) {
					t.Errorf("the event says %q, want %q", issuing[1].Reason, want)
				}
			})
		})
	}
}

// The CA is asked twice a day at least, and the moment that was picked stays
// while the window does.
func TestPickedMomentStaysWhileTheWindowDoes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cert := w.mustGet("a.example.com")
		w.ca.SetRenewalWindow(cert.Leaf, acmetest.RenewalWindow{Start: time.Now().Add(40 * day), End: time.Now().Add(50 * day)})
		time.Sleep(day)
		picked := w.m.Snapshot().Hosts[0].RenewAt
		for range 38 {
			asked := w.asks()
			time.Sleep(day)
			if n := w.asks() - asked; n < 2 || n > 5 {
				t.Fatalf("asked %d times in a day", n)
			}
			if at := w.m.Snapshot().Hosts[0].RenewAt; !at.Equal(picked) {
				t.Fatalf("the moment moved from %v to %v", picked, at)
			}
		}
		if n := len(w.events.of(audit.RenewalWindowMoved)); n != 0 {
			t.Errorf("%d events of a window that did not move", n)
		}
	})
}

// A window in the past means that the CA is about to revoke.
func TestWindowOfThePastRenewsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cert := w.mustGet("a.example.com")
		time.Sleep(10 * day)
		w.ca.SetRenewalWindow(cert.Leaf, acmetest.RenewalWindow{
			Start: time.Now().Add(-2 * time.Hour), End: time.Now().Add(-time.Hour), ExplanationURL: "https://ca.example/incident"})
		begin := time.Now()
		if at := w.renewedAt("a.example.com", cert, 90*day); at.Sub(begin) > 8*time.Hour {
			t.Errorf("renewed %v after the window had moved, want the next time that the CA was asked", at.Sub(begin))
		}
		moved, issuing := w.events.of(audit.RenewalWindowMoved), w.events.of(audit.IssuanceStarted)
		if len(moved) != 1 || moved[0].ExplanationURL != "https://ca.example/incident" {
			t.Errorf("events of the window that moved: %v", moved)
		}
		if len(issuing) != 2 || issuing[1].ExplanationURL != "https://ca.example/incident" || !strings.Contains(issuing[1].Reason, "the CA suggested") {
			t.Errorf("events of issuances: %v", issuing)
		}
	})
}

// While renewal information fails, in whatever way, renewal goes by age, and the
// CA is asked less and less.
func TestRenewalByAgeWhileTheCACannotBeAsked(t *testing.T) {
	t.Parallel()
	match := acmetest.Match{Endpoint: acmetest.RenewalInfo}
	faults := map[string]func(ca *acmetest.Server){
		"stalled":   func(ca *acmetest.Server) { ca.Stall(match) },
		"dropped":   func(ca *acmetest.Server) { ca.Drop(match) },
		"500":       func(ca *acmetest.Server) { ca.Status(match, 500, nil, acmetest.Problem{}) },
		"404":       func(ca *acmetest.Server) { ca.Status(match, 404, nil, acmetest.Problem{}) },
		"garbage":   func(ca *acmetest.Server) { ca.Garbage(match) },
		"endless":   func(ca *acmetest.Server) { ca.EndlessBody(match) },
		"no window": func(ca *acmetest.Server) { ca.Respond(match, 200, nil, `{}`) },
		"end first": func(ca *acmetest.Server) { ca.Respond(match, 200, nil, windowJSON("2000-03-01", "2000-02-01")) },
		"rate limit": func(ca *acmetest.Server) {
			ca.Status(match, 429, http.Header{"Retry-After": {"3600"}}, acmetest.Problem{})
		},
		"hot polling": func(ca *acmetest.Server) {
			ca.Status(match, 503, http.Header{"Retry-After": {"0"}}, acmetest.Problem{})
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				fault(w.ca)
				first := w.mustGet("a.example.com")
				at := w.renewedAt("a.example.com", first, 90*day)
				if left := first.Leaf.NotAfter.Sub(at); left > 33*day || left < 30*day-2*time.Hour { // an hour early or late, and seen within one more
					t.Errorf("renewed with %v left, want about a third", left)
				}
				if n := w.asks(); n < 60 || n > 1600 { // one that fails is sent twice
					t.Errorf("the CA was asked %d times in 60 days", n)
				}
				w.wantOrders("a.example.com", 2)
			})
		})
	}
}

func windowJSON(start, end string) string {
	return `{"suggestedWindow":{"start":"` + start + `T00:00:00Z","end":"` + end + `T00:00:00Z"}}`
}

// No window that a CA can send makes a loop, or lets a certificate expire.
func TestNoWindowMakesALoopOrAnExpiry(t *testing.T) {
	t.Parallel()
	windows := map[string]struct {
		body string
		most int // orders in 10 days
	}{
		"always past":   {windowJSON("1990-01-01", "1990-01-02"), 10*5 + 2},
		"year 1":        {windowJSON("0001-01-01", "0001-01-02"), 10*5 + 2},
		"far future":    {windowJSON("2999-01-01", "2999-01-02"), 1},
		"all time":      {windowJSON("0001-01-01", "9999-01-02"), 10*5 + 2},
		"beyond int64":  {windowJSON("9998-01-01", "9999-01-02"), 1},
		"after the end": {windowJSON("2000-04-01", "2000-05-01"), 1},
		"no start":      {`{"suggestedWindow":{"end":"2000-03-01T00:00:00Z"}}`, 1}, // which would be one of year 1
	}
	for name, tt := range windows {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.ca.Respond(acmetest.Match{Endpoint: acmetest.RenewalInfo}, 200, nil, tt.body)
				w.mustGet("a.example.com")
				time.Sleep(10 * day)
				if n := w.orders("a.example.com"); n > tt.most {
					t.Errorf("%d orders in 10 days, want %d at most", n, tt.most)
				}
				if tt.most > 1 {
					return
				}
				for range 100 {
					w.mustGet("a.example.com")
					time.Sleep(day)
				}
			})
		})
	}
}

// Retry-After says when to ask again, within bounds.
func TestRetryAfterSaysWhenToAskAgain(t *testing.T) {
	t.Parallel()
	for value, want := range map[string][2]int{ // least and most in 10 days
		"1":         {10*24*60*9/10 - 20, 10 * 24 * 60}, // every minute at most
		"43200":     {19, 20},
		"864000":    {9, 11}, // a day at most
		"-5":        {36, 41},
		"tomorrow!": {36, 41},
	} {
		t.Run(value, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.ca.RetryAfter(acmetest.RenewalInfo, value)
				w.mustGet("a.example.com")
				time.Sleep(10 * day)
				if n := w.asks(); n < want[0] || n > want[1] {
					t.Errorf("asked %d times in 10 days, want %d to %d", n, want[0], want[1])
				}
			})
		})
	}
}

// A CA that wants to be left alone is not asked either.
func TestOpenBreakerHoldsQuestionsBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, http.StatusTooManyRequests, http.Header{"Retry-After": {"86400"}},
			acmetest.Problem{Type: "rateLimited", Detail: "too many new orders (300) from this account in the last 3h0m0s"})
		w.get("b.example.com")
		if err := w.wantErr("c.example.com", certmgr.ErrBackoff); !errors.Is(err, certmgr.ErrCAUnavailable) {
			t.Fatalf("the CA counts as available: %v", err)
		}
		time.Sleep(20 * time.Hour)
		if n := w.asks(); n != 0 {
			t.Errorf("asked %d times while the CA is to be left alone", n)
		}
		time.Sleep(10 * time.Hour)
		if n := w.asks(); n == 0 {
			t.Error("not asked after that")
		}
	})
}

// Failing renewals are reported louder as the end comes near, each step once.
func TestFailingRenewalGrowsLouder(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		cert := w.mustGet("a.example.com")
		w.ca.Resolve("*", acmetest.Target{}) // moved away
		time.Sleep(time.Until(cert.Leaf.NotAfter) + 2*day)
		var left []time.Duration
		for _, e := range w.events.of(audit.RenewalLate) {
			left = append(left, e.NotAfter.Sub(e.Time).Round(time.Hour))
			if e.RetryAt.IsZero() || e.Err == nil || !strings.Contains(e.Reason, "expires in") {
				t.Errorf("the event does not say why and when: %v", e)
			}
			if loud := e.Level() > (audit.Event{Kind: audit.ClockOff}).Level(); loud != (e.NotAfter.Sub(e.Time) <= 7*day) {
				t.Errorf("level %v of %v", e.Level(), e)
			}
		}
		if len(left) != 3 || left[0] < 14*day || left[0] > 17*day || left[1] != 7*day || left[2] != day {
			t.Errorf("reported with %v left, want half of a third, 7 days, 1 day", left)
		}
		if n := len(w.events.of(audit.CertificateExpired)); n != 1 {
			t.Errorf("%d events of the expiry, want 1", n)
		}
	})
}

// A CA that backdates its certificates by some hours, and suggests windows of the
// past, is not ordered from every few minutes.
func TestBackdatedCertificatesMakeNoLoop(t *testing.T) {
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

// Client.RetryBackoff is the user's code: a panic in it, in a worker's own goroutine,
// does not end the process.
func TestPanicInRetryBackoffIsSurvived(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.restart()
		w.m.Client.RetryBackoff = func(int, *http.Request, *http.Response) time.Duration { panic("user's bug") }
		w.mustGet("a.example.com") // from the cache: no directory in memory
		w.ca.Status(acmetest.Match{Endpoint: acmetest.Directory}, 503, nil, acmetest.Problem{})
		time.Sleep(time.Hour)
	})
}

// The URL of an explanation is kept for each certificate, and bounded.
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

// After a 429 with Retry-After the CA is not asked sooner than it wants: jitter only
// adds to it.
func TestRefusedQuestionsKeepRetryAfter(t *testing.T) {
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

// A host that is not allowed any more causes no traffic.
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
