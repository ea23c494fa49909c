package certmgr_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

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

type panicHandler struct {
	slog.Handler
	calls atomic.Int32
}

func (h *panicHandler) Handle(context.Context, slog.Record) error { h.calls.Add(1); panic("handler") }
func (*panicHandler) Enabled(context.Context, slog.Level) bool    { return true }

// A slog handler that panics does not end the process, and hosts are served as before.
func TestPanickingLogHandlerIsSurvived(t *testing.T) {
	old, handler := slog.Default(), &panicHandler{Handler: slog.DiscardHandler}
	slog.SetDefault(slog.New(handler))
	defer slog.SetDefault(old)
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Audit = nil
		w.cache.get(func(context.Context, string) error { return errDisk })
		w.get("a.example.com")
		synctest.Wait()
		if handler.calls.Load() == 0 {
			t.Error("the failure was not logged")
		}
		w.cache.get(nil)
		w.mustGet("b.example.com")
	})
}

// Each issuance that began has one outcome, the local clock's fault included.
func TestEachIssuanceHasOneOutcome(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		certmgr.SetClock(w.m, func() time.Time { return time.Now().Add(365 * day) })
		w.get("a.example.com")
		var got []string
		w.events.of(audit.IssuanceStarted)
		w.events.mu.Lock()
		defer w.events.mu.Unlock()
		for _, e := range w.events.events {
			switch e.Kind {
			case audit.IssuanceStarted, audit.CertificateIssued, audit.IssuanceFailed, audit.IssuanceCanceled:
				got = append(got, string(e.Kind))
			}
		}
		if len(got) != 2 {
			t.Errorf("%q, want one outcome", got)
		}
		if v := w.m.Metrics(); v.Issued+v.Failed[audit.StageFinalize] != 1 {
			t.Errorf("%d issued and %v failed", v.Issued, v.Failed)
		}
	})
}

// An issuance that gets no slot in time is an event.
func TestQueueTimeoutIsReported(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.MaxIssuing = 1
		w.m.HandshakeWait = -1
		w.ca.Delay(acmetest.Match{Endpoint: acmetest.NewOrder}, 29*time.Second)
		for i := range 30 {
			w.m.Hosts.Add(fmt.Sprintf("h%d.example.com", i))
			w.get(fmt.Sprintf("h%d.example.com", i))
		}
		time.Sleep(10 * time.Minute)
		lost := 0
		started := w.events.of(audit.IssuanceStarted)
		failed := w.events.of(audit.IssuanceFailed)
		lost = 30 - len(started)
		if lost > 0 && len(failed) == 0 {
			t.Errorf("%d of 30 issuances were given up without an event", lost)
		}
	})
}

// The event of an issuance says for whom it began, by which rule, and what came
// of it: enough to find the order at the CA.
func TestEventsSayWhoAskedAndWhy(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		if err := w.m.Hosts.Add("*.example.org"); err != nil {
			t.Fatal(err)
		}
		w.handshake(t.Context(), "www.example.org")
		begun := w.events.of(audit.IssuanceStarted)[0]
		if begun.Decision != audit.Allowed || begun.Rule != "Hosts: *.example.org" || begun.SNI != "www.example.org" || begun.RemoteAddr != "pipe" {
			t.Errorf("the start: %v", begun)
		}
		issued := w.events.of(audit.CertificateIssued)[0]
		cert := w.mustGet("www.example.org")
		if issued.Serial != serialOf(cert.Leaf) || !strings.HasPrefix(issued.OrderURL, w.ca.URL[:8]) || !issued.NotAfter.Equal(cert.Leaf.NotAfter) {
			t.Errorf("the end: %v", issued)
		}
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "wrong machine"})
		w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: "A.example.com.", SupportedProtos: []string{"h2", "x\ny"}})
		failed := w.events.of(audit.IssuanceFailed)[0]
		if failed.OrderURL == "" || failed.Stage != audit.StageChallenge || failed.RetryAt.IsZero() || !strings.Contains(failed.String(), ` problem="urn:ietf:params:acme:error:unauthorized"`) {
			t.Errorf("the failure: %v", failed)
		}
		for _, e := range w.events.of(audit.HandshakesRefused) {
			if e.Result == audit.ResultFailed && (e.SNI != "A.example.com." || e.ALPN != `h2,x\ny`) {
				t.Errorf("who was refused: %v", e)
			}
		}
	})
}
