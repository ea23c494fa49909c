package certmgr_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
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
				if _, err := w.get("a.example.com"); errors.Is(err, certmgr.ErrInFlight) || errors.Is(err, certmgr.ErrBusy) {
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
		w.wantErr("a.example.com", certmgr.ErrInFlight)
		w.wantOrders("a.example.com", 1)
	})
}

func TestInFlightErrorSaysSinceWhenAndHowFar(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		start := time.Now()
		w.wantErr("a.example.com", certmgr.ErrInFlight)
		time.Sleep(7 * time.Second)
		err := w.wantErr("a.example.com", certmgr.ErrInFlight)
		for _, part := range []string{"a.example.com", "order", start.UTC().Format(time.RFC3339)} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
	})
}

func TestInFlightWaitBoundsTheWaitOfLaterVisitors(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.InFlightWait = 3 * time.Second
		w.m.MaxWaiting = 10
		fault := w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		defer fault.Lift()
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

func TestCertificateThatTurnsUpInTheCacheIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		fault := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection", Detail: "refused"})
		w.get("a.example.com")
		fault.Lift()
		synctest.Wait() // for the answer of the failed challenge to be gone
		other := w.manager()
		defer other.Close()
		if err := other.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // what follows an issuance or a load in the background
		w.cache.reads()
		w.cache.get(func(ctx context.Context, key string) error { return flight.Sleep(ctx, time.Second) })
		time.Sleep(10 * time.Second)
		for range 100 { // one of them has the cache read, in the background
			w.wantErr("a.example.com", certmgr.ErrBackoff)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(w.cache.otherReads()); n != 1 {
			t.Errorf("100 visitors in backoff caused %d cache reads, want 1", n)
		}
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 2)
	})
}
