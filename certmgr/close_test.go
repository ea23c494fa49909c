package certmgr_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// That no goroutine is left is seen to by the bubble, which fails if one is.
func TestCloseEndsEverything(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cert := w.mustGet("a.example.com")
		w.ca.Stall(acmetest.Match{Host: "b.example.com"})
		done := make(chan error, 1)
		go func() { _, err := w.get("b.example.com"); done <- err }()
		synctest.Wait()
		start := time.Now()
		if err := w.m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("Close took %v", d)
		}
		if err := <-done; !errors.Is(err, certmgr.ErrClosed) {
			t.Errorf("the waiting handshake got %v, want ErrClosed", err)
		}
		if err := w.m.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		w.mustGet("a.example.com") // memory is still served
		n := w.ca.Count(acmetest.Any)
		synctest.Wait() // what follows an issuance or a load in the background
		w.cache.reads()
		w.wantErr("c.example.com", certmgr.ErrClosed)
		for _, err := range []error{w.m.Obtain(t.Context(), "c.example.com"), w.m.Renew(t.Context(), "a.example.com"), w.m.Start(t.Context())} {
			if !errors.Is(err, certmgr.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		time.Sleep(time.Until(cert.Leaf.NotAfter) + day)
		w.wantErr("a.example.com", certmgr.ErrClosed)
		if w.ca.Count(acmetest.Any) != n || len(w.cache.reads()) != 0 {
			t.Error("something new began after Close")
		}
		if e := w.events.of(audit.ManagerClosed); len(e) != 1 {
			t.Errorf("events: %v", e)
		}
		if e := w.events.of(audit.IssuanceFailed); len(e) != 0 {
			t.Errorf("Close counts as a failure: %v", e)
		}
	})
}

// Close waits for callbacks that do not return, for its grace, and names them alone.
func TestCloseNamesCallbacksThatDoNotReturn(t *testing.T) {
	for name, after := range map[string]time.Duration{"a visitor waits": time.Second, "nobody waits any more": time.Minute} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.cache.get(func(context.Context, string) error { w.cache.hang(); return nil })
				go w.get("a.example.com")
				time.Sleep(after)
				start := time.Now()
				err := w.m.Close()
				if err == nil || !strings.Contains(err.Error(), "Cache.Get") || !strings.Contains(err.Error(), "a.example.com") ||
					strings.Contains(err.Error(), "Audit") {
					t.Errorf("Close = %v, want the callback that hangs and no other", err)
				}
				if d := time.Since(start); d != closeGrace {
					t.Errorf("Close took %v, want %v", d, closeGrace)
				}
				w.cache.release()
			})
		})
	}
}

// A second Close returns when everything has ended, as the first one does.
func TestSecondCloseWaitsForTheFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.put(func(context.Context, string) error { time.Sleep(2 * time.Second); return nil })
		go w.get("a.example.com")
		time.Sleep(100 * time.Millisecond)
		first := make(chan time.Time, 1)
		go func() { w.m.Close(); first <- time.Now() }()
		synctest.Wait()
		if len(first) != 0 {
			t.Fatal("the first Close did not wait for the write")
		}
		w.m.Close()
		if now, ended := time.Now(), <-first; now.Before(ended) {
			t.Errorf("the second Close returned %v before the first", ended.Sub(now))
		}
	})
}
