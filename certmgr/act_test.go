package certmgr_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// act has the Manager do something for alice, which must take no time.
func (w *world) act(kind certmgr.ActionKind, host string) (certmgr.ActionResult, error) {
	w.t.Helper()
	start := time.Now()
	res, err := w.m.Act(w.t.Context(), certmgr.Action{Kind: kind, Host: host, Actor: "alice", RemoteAddr: "192.0.2.1:4711"})
	if d := time.Since(start); d != 0 {
		w.t.Errorf("Act(%s %s) took %v", kind, host, d)
	}
	return res, err
}

func (w *world) wantState(kind certmgr.ActionKind, host string, state certmgr.ActionState) certmgr.ActionResult {
	w.t.Helper()
	res, err := w.act(kind, host)
	if err != nil || res.State != state {
		w.t.Fatalf("Act(%s %s) = %q, %v; want %q", kind, host, res.State, err, state)
	}
	return res
}

// wantActor checks that there are events of these kinds about host with alice as
// their actor, in this order, and no others with an actor.
func (w *world) wantActor(kinds ...audit.Kind) {
	w.t.Helper()
	synctest.Wait()
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	var got []audit.Kind
	for _, e := range w.events.events {
		if e.Actor != "" {
			got = append(got, e.Kind)
			if e.Actor != "alice" {
				w.t.Errorf("the actor of %v is not alice", e)
			}
		}
	}
	if len(got) != len(kinds) {
		w.t.Fatalf("events of alice: %q, want %q", got, kinds)
	}
	for i := range got {
		if got[i] != kinds[i] {
			w.t.Fatalf("events of alice: %q, want %q", got, kinds)
		}
	}
}

// The button of a host that backs off: the answer is there at once, though the
// CA takes its time, and the request's end does not end the attempt.
func TestActRetriesAHostThatBacksOff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		fault := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection", Detail: "refused"})
		w.get("a.example.com")
		fault.Lift()
		w.wantErr("a.example.com", certmgr.ErrBackoff)
		stall := w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		ctx, cancel := context.WithCancel(t.Context())
		res, err := w.m.Act(ctx, certmgr.Action{Kind: certmgr.ActionRetry, Host: "A.example.com.", Actor: "alice"})
		if err != nil || res.State != certmgr.ActionBegun {
			t.Fatalf("Act: %+v, %v", res, err)
		}
		cancel()
		synctest.Wait()
		for range 3 {
			res := w.wantState(certmgr.ActionRetry, "a.example.com", certmgr.ActionInFlight)
			if res.Since.IsZero() || res.Stage != audit.StageOrder {
				t.Errorf("it does not say what is in flight: %+v", res)
			}
		}
		stall.Lift()
		time.Sleep(time.Second)
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 2)
		w.wantState(certmgr.ActionRetry, "a.example.com", certmgr.ActionUnneeded)
		// The clicks in between are counted.
		w.wantActor(audit.OperatorAction, audit.IssuanceStarted, audit.OperatorAction, audit.CertificateIssued)
		if e := w.events.of(audit.CertificateIssued)[0]; e.Reason != "retry by alice" {
			t.Errorf("the certificate was issued for %q", e.Reason)
		}
		w.m.Close()
		last := w.events.of(audit.OperatorAction)
		if n := last[len(last)-1].Count; n != 3 {
			t.Errorf("%d actions in the last event, want the last 2 that joined and the one that was not needed", n)
		}
	})
}

// What a visitor has begun is not begun again. The action changes nothing, so the
// next one need not wait.
func TestActDuringAVisitorsIssuance(t *testing.T) {
	for _, kind := range []certmgr.ActionKind{certmgr.ActionRetry, certmgr.ActionRenew} {
		t.Run(string(kind), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				begun := time.Now()
				outcome, lift := w.inFlight("a.example.com", acmetest.NewOrder)
				res := w.wantState(kind, "a.example.com", certmgr.ActionInFlight)
				if !res.Since.Equal(begun) || res.Stage != audit.StageOrder {
					t.Errorf("it does not say what is in flight: %+v", res)
				}
				w.wantActor(audit.OperatorAction)
				if e := w.events.of(audit.OperatorAction)[0]; e.Reason != string(kind)+": an issuance is in flight already" {
					t.Errorf("event: %v", e)
				}
				lift()
				if err := <-outcome; err != nil {
					t.Fatalf("the visitor got %v", err)
				}
				w.wantOrders("a.example.com", 1)
				w.wantActor(audit.OperatorAction)
				w.wantState(certmgr.ActionRenew, "a.example.com", certmgr.ActionBegun)
				time.Sleep(time.Second)
				w.wantOrders("a.example.com", 2)
			})
		})
	}
}

// A certificate that another machine has stored meanwhile is loaded.
func TestActRetryLooksIntoTheCache(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		synctest.Wait()
		w.restart()
		w.wantState(certmgr.ActionRetry, "a.example.com", certmgr.ActionBegun)
		time.Sleep(time.Second)
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 1)
	})
}

func TestActRenewsAndSaysHowItEnded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		first := w.mustGet("a.example.com")
		w.wantState(certmgr.ActionRenew, "a.example.com", certmgr.ActionBegun)
		time.Sleep(time.Second)
		if second := w.mustGet("a.example.com"); second.Leaf.Equal(first.Leaf) {
			t.Error("it was not renewed")
		}
		time.Sleep(time.Minute)
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns", Detail: "no such name"})
		w.wantState(certmgr.ActionRenew, "a.example.com", certmgr.ActionBegun)
		time.Sleep(time.Minute)
		w.wantActor(audit.OperatorAction, audit.IssuanceStarted, audit.CertificateIssued,
			audit.OperatorAction, audit.IssuanceStarted, audit.ChallengeFailed, audit.IssuanceFailed, audit.OperatorActionFailed)
		e := w.events.of(audit.OperatorActionFailed)[0]
		if e.Host != "a.example.com" || !strings.Contains(e.Err.Error(), "no such name") || e.RemoteAddr != "192.0.2.1:4711" {
			t.Errorf("the event does not say what failed: %v", e)
		}
	})
}

// Whoever clicks each second does not use up the CA's limits.
func TestActBeginsOneIssuanceAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns", Detail: "no such name"})
		for range 150 {
			res, err := w.act(certmgr.ActionRetry, "a.example.com")
			if errors.Is(err, certmgr.ErrBackoff) && !res.RetryAt.After(time.Now()) {
				t.Fatalf("it does not say when it is possible: %+v, %v", res, err)
			}
			time.Sleep(time.Second)
		}
		w.wantOrders("a.example.com", 3)
		if n := len(w.events.of(audit.OperatorActionFailed)); n > 3+4 {
			t.Errorf("%d events of failures and refusals", n)
		}
	})
}

// What the CA asks for holds for operators too.
func TestActObeysRetryAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		limit := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 429, map[string][]string{"Retry-After": {"7200"}},
			acmetest.Problem{Type: "rateLimited", Detail: "too many failed authorizations (5) for \"a.example.com\" in the last 1h0m0s"})
		w.get("a.example.com")
		limit.Lift()
		time.Sleep(10 * time.Minute)
		res, err := w.act(certmgr.ActionRetry, "a.example.com")
		if !errors.Is(err, certmgr.ErrBackoff) || time.Until(res.RetryAt) < time.Hour || !strings.Contains(err.Error(), "the CA wants no request before") {
			t.Fatalf("Act: %+v, %v", res, err)
		}
		time.Sleep(2 * time.Hour)
		w.wantState(certmgr.ActionRetry, "a.example.com", certmgr.ActionBegun)
	})
}

func TestActRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts.Add("*.example.org")
		for _, tt := range []struct {
			name   string
			action certmgr.Action
			want   error
			says   string
		}{
			{"no actor", certmgr.Action{Kind: certmgr.ActionRetry, Host: "a.example.com", Actor: " \t"}, nil, "needs an Actor"},
			{"unknown kind", certmgr.Action{Kind: "delete\n", Host: "a.example.com", Actor: "alice"}, nil, `unknown action`},
			{"not allowed", certmgr.Action{Kind: certmgr.ActionRetry, Host: "other.example.net", Actor: "alice"}, certmgr.ErrHostNotAllowed, "nothing is known of it"},
			{"below a wildcard", certmgr.Action{Kind: certmgr.ActionRenew, Host: "new.example.org", Actor: "alice"}, certmgr.ErrHostNotAllowed, "nothing is known of it"},
			{"revoke", certmgr.Action{Kind: certmgr.ActionRevoke, Host: "new.example.org", Actor: "alice"}, certmgr.ErrHostNotAllowed, "nothing is known of it"},
			{"an address", certmgr.Action{Kind: certmgr.ActionRetry, Host: "192.0.2.1:443", Actor: "alice"}, certmgr.ErrBadServerName, ""},
			{"long", certmgr.Action{Kind: certmgr.ActionRetry, Host: strings.Repeat("a.", 1<<20), Actor: "alice"}, certmgr.ErrBadServerName, ""},
			{"no host", certmgr.Action{Kind: certmgr.ActionRetry, Actor: "alice"}, certmgr.ErrNoServerName, ""},
			{"no file", certmgr.Action{Kind: certmgr.ActionReload, Actor: "alice"}, nil, "no file to reload"},
		} {
			res, err := w.m.Act(t.Context(), tt.action)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) || res.State != "" {
				t.Errorf("%s: %+v, %v", tt.name, res, err)
			}
			if err != nil && (len(err.Error()) > 2048 || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%s: the error is not one line of bounded length: %q", tt.name, err)
			}
		}
		w.m.Close()
		if _, err := w.act(certmgr.ActionRetry, "a.example.com"); !errors.Is(err, certmgr.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if n := len(w.ca.Orders()); n > 0 {
			t.Errorf("%d orders were placed", n)
		}
		for _, e := range w.events.of(audit.OperatorActionFailed) {
			if e.Decision != audit.Refused || len(e.String()) > 4096 {
				t.Errorf("%v", e)
			}
		}
	})
}

// A host that only a policy allows is asked about again.
func TestActAsksThePolicy(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts = nil
		allow := true
		refused := errors.New("the customer left")
		w.m.HostPolicy = func(context.Context, string) error {
			if allow {
				return nil
			}
			return refused
		}
		w.mustGet("x.example.net")
		w.wantState(certmgr.ActionRenew, "x.example.net", certmgr.ActionBegun)
		time.Sleep(time.Second)
		allow = false
		if _, err := w.act(certmgr.ActionRenew, "x.example.net"); !errors.Is(err, refused) {
			t.Errorf("Act: %v", err)
		}
	})
}

func TestActRevokes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		res, err := w.m.Act(t.Context(), certmgr.Action{Kind: certmgr.ActionRevoke, Host: "a.example.com", Actor: "alice", Reason: acme.CRLReasonKeyCompromise})
		if err != nil || res.State != certmgr.ActionBegun {
			t.Fatalf("Act: %+v, %v", res, err)
		}
		time.Sleep(time.Second)
		w.wantActor(audit.OperatorAction, audit.CertificateRevoked)
		if e := w.events.of(audit.OperatorAction)[0]; e.Reason != "revoke (keyCompromise)" || e.Decision != audit.Allowed {
			t.Errorf("the event does not say what was done: %v", e)
		}
		if n := len(w.ca.Revoked()); n != 1 {
			t.Errorf("%d certificates were revoked", n)
		}
	})
}

func TestActReloadsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.txt")
	write := func(lines string) {
		if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.example.com\n")
	list, err := certmgr.OpenAllowlist(path)
	if err != nil {
		t.Fatal(err)
	}
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts = list
		if got := w.m.Snapshot().HostsFile; got != path {
			t.Errorf("HostsFile is %q", got)
		}
		write("a.example.com\nb.example.com\n")
		if res := w.wantState(certmgr.ActionReload, "", certmgr.ActionDone); res.Entries != 2 {
			t.Errorf("%d entries", res.Entries)
		}
		w.wantActor(audit.OperatorAction, audit.HostListed, audit.AllowlistReloaded)
		write("not a name\n")
		if _, err := w.act(certmgr.ActionReload, ""); err == nil || !strings.Contains(err.Error(), "hosts.txt:1: ") {
			t.Errorf("Act with a bad file: %v", err)
		}
		if !list.Contains("b.example.com") {
			t.Error("the list has changed")
		}
		w.wantActor(audit.OperatorAction, audit.HostListed, audit.AllowlistReloaded, audit.OperatorAction, audit.OperatorActionFailed)
	})
}

// Close ends what an action began, and says so.
func TestCloseEndsActions(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		stall := w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		defer stall.Lift()
		w.wantState(certmgr.ActionRetry, "a.example.com", certmgr.ActionBegun)
		time.Sleep(time.Second)
		if err := w.m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		e := w.events.of(audit.OperatorActionFailed)
		if len(e) != 1 || !errors.Is(e[0].Err, certmgr.ErrClosed) {
			t.Errorf("events: %v", e)
		}
	})
}

// Strangers who try flood no log.
func TestDeniedActionsAreCoalesced(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cause := errors.New("no such session")
		for range 1000 {
			w.m.ReportDenied("192.0.2.1:4711", cause)
		}
		w.m.Close()
		events := w.events.of(audit.OperatorActionFailed)
		if len(events) != 2 || events[0].Count+events[1].Count != 1000 {
			t.Fatalf("events: %v", events)
		}
		if e := events[0]; e.Err != cause || e.RemoteAddr != "192.0.2.1:4711" || e.Actor != "" || e.Level() < 4 {
			t.Errorf("event: %v", e)
		}
	})
}
