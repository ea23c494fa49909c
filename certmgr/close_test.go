package certmgr

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("the waiting handshake got %v, want ErrClosed", err)
		}
		if err := w.m.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		w.mustGet("a.example.com") // memory is still served
		n := w.ca.Count(acmetest.Any)
		w.cache.reads()
		w.wantErr("c.example.com", ErrClosed)
		for _, err := range []error{w.m.Obtain(t.Context(), "c.example.com"), w.m.Renew(t.Context(), "a.example.com"), w.m.Start(t.Context())} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		time.Sleep(time.Until(cert.Leaf.NotAfter) + day)
		w.wantErr("a.example.com", ErrClosed)
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

func TestCloseNamesCallbacksThatDoNotReturn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.get(func(context.Context, string) error { w.cache.hang(); return nil })
		w.get("a.example.com")
		start := time.Now()
		err := w.m.Close()
		if err == nil || !strings.Contains(err.Error(), "Cache.Get") || !strings.Contains(err.Error(), "a.example.com") {
			t.Errorf("Close = %v, want the callback that hangs", err)
		}
		if d := time.Since(start); d != closeGrace {
			t.Errorf("Close took %v, want %v", d, closeGrace)
		}
		w.cache.release()
	})
}

func TestAuditIsOrderedAndSurvivesItsHook(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var last, panics atomic.Uint64
		w.m.Audit = func(ctx context.Context, e audit.Event) {
			if e.Seq != last.Add(1) {
				t.Errorf("event %d came as number %d", e.Seq, last.Load())
			}
			w.events.hook(ctx, e)
			switch panics.Add(1) {
			case 1:
				panic("boom")
			case 2:
				runtime.Goexit()
			}
		}
		w.mustGet("a.example.com")
		w.ca.FailValidation("b.example.com", "", acmetest.Problem{Type: "dns", Detail: "no such host"})
		w.get("b.example.com")
		issued := w.events.of(audit.CertificateIssued)
		failed := w.events.of(audit.IssuanceFailed)
		if len(issued) != 1 || len(failed) != 1 {
			t.Fatalf("%d issued and %d failed", len(issued), len(failed))
		}
		for _, e := range w.events.of(audit.IssuanceStarted) {
			if e.Attempt != issued[0].Attempt && e.Attempt != failed[0].Attempt || e.Attempt == "" {
				t.Errorf("attempt %q has no outcome", e.Attempt)
			}
		}
	})
}

func TestFailuresGoToSlogWithoutAHook(t *testing.T) {
	log := quietLog(t)
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Audit = nil
		w.mustGet("a.example.com")
		w.ca.FailValidation("b.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "wrong machine"})
		w.get("b.example.com")
		synctest.Wait()
		text := log.String()
		for _, part := range []string{"b.example.com", "wrong machine", "level=ERROR", "retry_at="} {
			if !strings.Contains(text, part) {
				t.Errorf("the log does not have %q:\n%s", part, text)
			}
		}
		if strings.Contains(text, "a.example.com") {
			t.Errorf("successes are in the log:\n%s", text)
		}
	})
}

func TestAccountIsRegisteredOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const terms = "https://ca.example/terms"
		w.ca.ChangeTerms(terms)
		var asked atomic.Int32
		w.m.Prompt = func(url string) bool { asked.Add(1); return url == terms }
		w.m.Email = "ops@example.com"
		errs := make(chan error)
		hosts := []string{"a.example.com", "b.example.com", "c.example.com", "d.example.com"}
		for _, h := range hosts {
			go func() { _, err := w.get(h); errs <- err }()
		}
		for range hosts {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if n := w.ca.Count(acmetest.NewAccount); n != 1 || asked.Load() != 1 {
			t.Errorf("%d registrations, and Prompt was called %d times, want 1 of each", n, asked.Load())
		}
		if acc := w.ca.Accounts(); len(acc) != 1 || len(acc[0].Contact) != 1 || acc[0].Contact[0] != "mailto:ops@example.com" {
			t.Errorf("accounts: %+v", acc)
		}
		w.restart() // the same key, an account that exists
		if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		if acc := w.ca.Accounts(); len(acc) != 1 {
			t.Errorf("%d accounts after a restart, want 1", len(acc))
		}
	})
}

func TestTermsThatAreNotAccepted(t *testing.T) {
	for name, prompt := range map[string]func(string) bool{"nil": nil, "no": func(string) bool { return false }, "panic": func(string) bool { panic("boom") }} {
		inBubble(t, func(t *testing.T, w *world) {
			const terms = "https://ca.example/terms"
			w.ca.ChangeTerms(terms)
			w.m.Prompt = prompt
			_, err := w.get("a.example.com")
			issue, ok := errors.AsType[*IssuanceError](err)
			if !ok || issue.Stage != audit.StageAccount || name != "panic" && (!strings.Contains(err.Error(), terms) || !strings.Contains(err.Error(), "Prompt")) {
				t.Errorf("%s: got %v", name, err)
			}
		})
	}
}
