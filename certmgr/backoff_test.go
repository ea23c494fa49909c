package certmgr_test

import (
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/challenge"
)

func TestBackoffTellsTheReason(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "wrong\nmachine\x1b[31m"})
		_, first := w.get("a.example.com")
		var issue *certmgr.IssuanceError
		if !errors.As(first, &issue) {
			t.Fatalf("the first visitor got %v, want an *IssuanceError", first)
		}
		time.Sleep(30 * time.Second)
		err := w.wantErr("a.example.com", certmgr.ErrBackoff)
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
			issue, ok := errors.AsType[*certmgr.IssuanceError](err)
			if !ok || issue.Attempts != i+1 {
				t.Fatalf("attempt %d: %v", i+1, err)
			}
			wait := time.Until(issue.RetryAt)
			if wait < d*9/10 || wait > d*11/10 {
				t.Errorf("after failure %d the next attempt is due in %v, want %v and 10%% of jitter", i+1, wait, d)
			}
			time.Sleep(wait - time.Millisecond)
			w.wantErr("a.example.com", certmgr.ErrBackoff)
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
		issue, ok := errors.AsType[*certmgr.IssuanceError](err)
		if !ok || time.Until(issue.RetryAt) != 2*time.Hour {
			t.Fatalf("got %v; want the next attempt in 2 hours", err)
		}
		w.wantOrders("a.example.com", 1) // a 429 is never tried again inside an attempt
		w.mustGet("b.example.com")       // and it is that host's alone
	})
}

func TestFailureEndsWithSuccess(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		fault := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection", Detail: "refused"})
		w.get("a.example.com")
		fault.Lift()
		w.wantErr("a.example.com", certmgr.ErrBackoff)
		time.Sleep(66 * time.Second)
		w.mustGet("a.example.com")
		synctest.Wait()
		if st := w.m.Snapshot().Hosts; len(st) != 1 || st[0].Failure != nil || st[0].State != certmgr.StateValid {
			t.Errorf("after a success the snapshot says %+v", st)
		}
		if _, err := w.cache.Get(t.Context(), "a.example.com+failure"); !errors.Is(err, certmgr.ErrCacheMiss) {
			t.Errorf("the failure's record is still in the cache: %v", err)
		}
	})
}

func TestObtainOverridesBackoff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		fault := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection", Detail: "refused"})
		w.get("a.example.com")
		fault.Lift()
		w.wantErr("a.example.com", certmgr.ErrBackoff)
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

// A host that is added shortens its own backoff and no other.
func TestAddShortensNoOtherHostsBackoff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns"})
		for range 3 {
			w.get("a.example.com")
			time.Sleep(11*time.Minute + 30*time.Second)
		}
		n := w.orders("a.example.com")
		w.wantErr("a.example.com", certmgr.ErrBackoff)
		w.m.Hosts.Add("new-customer.example.org")
		w.get("a.example.com")
		w.wantOrders("a.example.com", n)
	})
}

// The Retry-After of a second order, which tries the other type of challenge, is
// heeded, although the first challenge's error is the one that is reported.
func TestRetryAfterOfTheSecondOrderCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HTTPHandler(nil)
		w.ca.FailValidation("a.example.com", challenge.TLSALPN01, acmetest.Problem{Type: "dns", Detail: "no"})
		go func() {
			for w.orders("a.example.com") == 0 {
				time.Sleep(time.Millisecond)
			}
			w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "a.example.com"}, 429, http.Header{"Retry-After": {"36000"}},
				acmetest.Problem{Type: "rateLimited", Detail: `too many failed authorizations for "a.example.com"`})
		}()
		_, err := w.get("a.example.com")
		e, ok := errors.AsType[*certmgr.IssuanceError](err)
		if !ok {
			t.Fatal(err)
		}
		if d := e.RetryAt.Sub(e.Time); d < 10*time.Hour {
			t.Errorf("next attempt after %v, the CA asked for 10 h: %v", d, err)
		}
	})
}

// A failed validation backs off both key types, when clients of both kinds come
// at the same time.
func TestFailedValidationHoldsBothKeyTypesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.m.HTTPHandler(nil)
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns"})
		w.get("a.example.com")
		w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: "a.example.com", SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256}})
		time.Sleep(30 * time.Second)
		if n := len(w.events.of(audit.ChallengeFailed)); n > 2 {
			t.Errorf("%d failed validations within seconds, %d orders (LE allows 5 an hour)", n, w.orders("a.example.com"))
		}
	})
}

// An Obtain that got no slot keeps the wait that the CA asked for.
func TestQueueTimeoutKeepsRetryAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.MaxIssuing = 1
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "a.example.com"}, 429, http.Header{"Retry-After": {"36000"}},
			acmetest.Problem{Type: "rateLimited", Detail: `too many certificates for "a.example.com"`})
		w.get("a.example.com")
		fault.Lift()
		n := w.orders("a.example.com")
		w.ca.StuckProcessing("b.example.com")
		w.ca.StuckProcessing("c.example.com")
		go w.get("b.example.com") // has the slot for as long as an attempt may take
		time.Sleep(time.Minute)
		go w.m.Obtain(t.Context(), "c.example.com") // has it then
		time.Sleep(time.Minute)
		if err := w.m.Obtain(t.Context(), "a.example.com"); !errors.Is(err, certmgr.ErrBusy) {
			t.Errorf("Obtain = %v, want ErrBusy", err)
		}
		time.Sleep(10 * time.Minute)
		w.get("a.example.com")
		time.Sleep(10 * time.Minute)
		if got := w.orders("a.example.com"); got != n {
			t.Errorf("%d orders, the CA said 10 h", got-n)
		}
	})
}

// A long cause does not cut off when the next attempt is due.
func TestLongCauseKeepsTheNextAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns", Detail: strings.Repeat("During secondary validation: no. ", 60)})
		w.get("a.example.com")
		_, err := w.get("a.example.com")
		if !strings.Contains(err.Error(), "next attempt 2000") {
			t.Errorf("...%s", err.Error()[900:])
		}
	})
}
