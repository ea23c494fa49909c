package certmgr

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
)

// The number that the library exists for: with any number of handshakes on a
// host whose issuance hangs, one waits, and not for long.
func TestOneOf2000HandshakesWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("b.example.com")
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "a.example.com"})
		var blocked, inFlight atomic.Int32
		var wg sync.WaitGroup
		for range 2000 {
			blocked.Add(1)
			wg.Go(func() {
				defer blocked.Add(-1)
				// ErrBusy: more than half of MaxWaiting asked in the moment of the cache read.
				if _, err := w.get("a.example.com"); errors.Is(err, ErrInFlight) || errors.Is(err, ErrBusy) {
					inFlight.Add(1)
				}
			})
		}
		synctest.Wait()
		if n := blocked.Load(); n != 1 {
			t.Fatalf("%d of 2000 handshakes are blocked, want 1", n)
		}
		if n := w.m.Snapshot().Waiting; n != 1 {
			t.Errorf("Snapshot counts %d waiting handshakes, want 1", n)
		}
		w.mustGet("b.example.com") // as if idle
		start := time.Now()
		wg.Wait()
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("the handshake that began the issuance waited %v, want HandshakeWait (10 s)", d)
		}
		if n := inFlight.Load(); n != 2000 {
			t.Errorf("%d handshakes were refused, want 2000", n)
		}
		w.wantErr("a.example.com", ErrInFlight)
		w.wantOrders("a.example.com", 1)
	})
}

func TestInFlightErrorSaysSinceWhenAndHowFar(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		start := time.Now()
		w.wantErr("a.example.com", ErrInFlight)
		time.Sleep(7 * time.Second)
		err := w.wantErr("a.example.com", ErrInFlight)
		for _, part := range []string{"a.example.com", "order", start.UTC().Format(time.RFC3339)} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
	})
}

func TestInFlightWait(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.InFlightWait = 3 * time.Second
		w.m.MaxWaiting = 10
		lift := w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		defer lift()
		var wg sync.WaitGroup
		var waited, refused atomic.Int32
		for range 100 {
			wg.Go(func() {
				start := time.Now()
				w.get("a.example.com")
				switch time.Since(start) {
				case 0:
					refused.Add(1)
				case 3 * time.Second:
					waited.Add(1)
				}
			})
		}
		wg.Wait()
		// One host may have half of MaxWaiting, its first handshake included.
		if waited.Load() != 4 || refused.Load() != 95 {
			t.Errorf("%d waited InFlightWait and %d were refused at once, want 4 and 95", waited.Load(), refused.Load())
		}
	})
}

func TestInFlightWaitGetsTheCertificate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.InFlightWait = time.Minute
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { w.mustGet("a.example.com") })
		}
		wg.Wait()
		w.wantOrders("a.example.com", 1)
	})
}

func TestIssuanceOutlivesItsHandshake(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.Delay(acmetest.Match{Endpoint: acmetest.NewOrder}, 2*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := w.handshake(ctx, "a.example.com"); err == nil {
			t.Error("the handshake succeeded before the CA answered")
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("the handshake ended after %v, want its own context's second", d)
		}
		time.Sleep(2 * time.Second)
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 1)
	})
}

func TestBackoffTellsTheReason(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "wrong\nmachine\x1b[31m"})
		_, first := w.get("a.example.com")
		var issue *IssuanceError
		if !errors.As(first, &issue) {
			t.Fatalf("the first visitor got %v, want an *IssuanceError", first)
		}
		time.Sleep(30 * time.Second)
		err := w.wantErr("a.example.com", ErrBackoff)
		var problem *acme.Error
		if !errors.As(err, &issue) || !errors.As(err, &problem) {
			t.Fatalf("%v does not wrap *IssuanceError and *acme.Error", err)
		}
		if problem.ProblemType != "urn:ietf:params:acme:error:unauthorized" || problem.StatusCode != http.StatusForbidden {
			t.Errorf("problem %q, status %d", problem.ProblemType, problem.StatusCode)
		}
		if issue.Host != "a.example.com" || issue.Stage != audit.StageChallenge || issue.CA != w.ca.URL || issue.Attempts != 1 || issue.Attempt == "" {
			t.Errorf("IssuanceError = %+v", issue)
		}
		if d := issue.RetryAt.Sub(issue.Time); d < 54*time.Second || d > 66*time.Second {
			t.Errorf("the next attempt is due %v after the failure, want a minute and 10%% of jitter", d)
		}
		if !strings.Contains(err.Error(), "next attempt "+issue.RetryAt.UTC().Format(time.RFC3339)) {
			t.Errorf("%q does not say when the next attempt is due", err)
		}
		w.wantOrders("a.example.com", 1)
	})
}

func TestBackoffSchedule(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "no"})
		want := []time.Duration{time.Minute, 10 * time.Minute}
		for range 24 {
			want = append(want, time.Hour)
		}
		want = append(want, 24*time.Hour, 24*time.Hour)
		for i, d := range want {
			_, err := w.get("a.example.com")
			issue, ok := errors.AsType[*IssuanceError](err)
			if !ok || issue.Attempts != i+1 {
				t.Fatalf("attempt %d: %v", i+1, err)
			}
			wait := time.Until(issue.RetryAt)
			if wait < d*9/10 || wait > d*11/10 {
				t.Errorf("after failure %d the next attempt is due in %v, want %v and 10%% of jitter", i+1, wait, d)
			}
			time.Sleep(wait - time.Millisecond)
			w.wantErr("a.example.com", ErrBackoff)
			time.Sleep(time.Millisecond)
		}
		w.wantOrders("a.example.com", len(want))
	})
}

func TestRetryAfterWinsIfLater(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		header := http.Header{"Retry-After": {"7200"}}
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "a.example.com"}, http.StatusTooManyRequests, header,
			acmetest.Problem{Type: "rateLimited", Detail: "too many failed authorizations (5) for \"a.example.com\""})
		_, err := w.get("a.example.com")
		issue, ok := errors.AsType[*IssuanceError](err)
		if !ok || time.Until(issue.RetryAt) != 2*time.Hour {
			t.Fatalf("got %v; want the next attempt in 2 hours", err)
		}
		w.wantOrders("a.example.com", 1) // a 429 is never tried again inside an attempt
		w.mustGet("b.example.com")       // and it is that host's alone
	})
}

func TestFailureEndsWithSuccess(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		lift := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection", Detail: "refused"})
		w.get("a.example.com")
		lift()
		w.wantErr("a.example.com", ErrBackoff)
		time.Sleep(66 * time.Second)
		w.mustGet("a.example.com")
		synctest.Wait()
		if st := w.m.Snapshot().Hosts; len(st) != 1 || st[0].Failure != nil || st[0].State != StateValid {
			t.Errorf("after a success the snapshot says %+v", st)
		}
		if _, err := w.cache.Get(t.Context(), "a.example.com+failure"); !errors.Is(err, ErrCacheMiss) {
			t.Errorf("the failure's record is still in the cache: %v", err)
		}
	})
}

func TestObtainOverridesBackoff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		lift := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection", Detail: "refused"})
		w.get("a.example.com")
		lift()
		w.wantErr("a.example.com", ErrBackoff)
		if err := w.m.Obtain(t.Context(), "A.example.com."); err != nil {
			t.Fatalf("Obtain: %v", err)
		}
		w.mustGet("a.example.com")
		if err := w.m.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Fatalf("Obtain: %v", err)
		}
		w.wantOrders("a.example.com", 2)
	})
}

func TestCertificateThatTurnsUpInTheCacheIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		lift := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection", Detail: "refused"})
		w.get("a.example.com")
		lift()
		synctest.Wait() // for the answer of the failed challenge to be gone
		other := w.manager()
		defer other.Close()
		if err := other.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		w.cache.reads()
		w.cache.get(func(ctx context.Context, key string) error { return flight.Sleep(ctx, time.Second) })
		time.Sleep(10 * time.Second)
		for range 100 { // one of them has the cache read, in the background
			w.wantErr("a.example.com", ErrBackoff)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(w.cache.reads()); n != 1 {
			t.Errorf("100 visitors in backoff caused %d cache reads, want 1", n)
		}
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 2)
	})
}
