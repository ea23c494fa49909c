package certmgr_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// unpauseLink is as long as Boulder's.
var unpauseLink = "https://sfe.ca.example/sfe/v1/unpause?jwt=" + strings.Repeat("eyJhbGciOi_", 75)

// pauseHost makes the CA pause a host, as Boulder does.
func pauseHost(w *world, host string) (lift func()) {
	return w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: host}, http.StatusTooManyRequests, nil,
		acmetest.Problem{Type: "rateLimited", Detail: "Your account is temporarily prevented from requesting certificates for " +
			host + " and possibly others. Please visit: " + unpauseLink}).Lift
}

// rejections are the ways in which a CA refuses a host until somebody acts.
func rejections() map[string]struct {
	state certmgr.HostState
	text  string // what to do
	make  func(w *world, host string) (lift func())
} {
	problem := func(endpoint acmetest.Endpoint, status int, p acmetest.Problem) func(*world, string) func() {
		return func(w *world, host string) func() {
			return w.ca.Status(acmetest.Match{Endpoint: endpoint, Host: host}, status, nil, p).Lift
		}
	}
	type rejection = struct {
		state certmgr.HostState
		text  string
		make  func(w *world, host string) (lift func())
	}
	caa := acmetest.Problem{Type: "caa", Detail: "CAA record for example.com prevents issuance"}
	return map[string]rejection{
		"paused": {certmgr.StatePaused, "unpause", pauseHost},
		"rejectedIdentifier": {certmgr.StateRejected, "another CA", problem(acmetest.NewOrder, http.StatusBadRequest,
			acmetest.Problem{Type: "rejectedIdentifier", Detail: "forbidden by policy"})},
		"rejectedIdentifier in a subproblem": {certmgr.StateRejected, "another CA", problem(acmetest.NewOrder, http.StatusForbidden,
			acmetest.Problem{Type: "compound", Detail: "see below", Subproblems: []acmetest.Subproblem{{Type: "rejectedIdentifier", Detail: "no"}}})},
		"forbidden name": {certmgr.StateRejected, "another CA", problem(acmetest.NewOrder, http.StatusBadRequest,
			acmetest.Problem{Type: "malformed", Detail: `Cannot issue for "a.example.com": Domain name does not end with a valid public suffix (TLD)`})},
		"CAA, challenge": {certmgr.StateRejected, "CAA", func(w *world, host string) func() { return w.ca.FailValidation(host, "", caa).Lift }},
		"CAA, finalize":  {certmgr.StateRejected, "CAA", problem(acmetest.Finalize, http.StatusForbidden, caa)},
		"CAA, order":     {certmgr.StateRejected, "CAA", func(w *world, host string) func() { return w.ca.FailFinalize(host, caa).Lift }},
		"CAA in a subproblem": {certmgr.StateRejected, "CAA", problem(acmetest.Finalize, http.StatusForbidden,
			acmetest.Problem{Type: "unauthorized", Detail: "see below", Subproblems: []acmetest.Subproblem{{Type: "caa", Detail: caa.Detail}}})},
	}
}

// A host that the CA has paused or rejected is left alone for a day, by visitors,
// by Start and over restarts. Whoever looks learns why, and what to do.
func TestHeldHostIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, r := range rejections() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				const host = "a.example.com"
				lift := r.make(w, host)
				_, err := w.get(host)
				issue, ok := errors.AsType[*certmgr.IssuanceError](err)
				if !ok || issue.State != r.state || time.Until(issue.RetryAt) < day || time.Until(issue.RetryAt) > 27*time.Hour {
					t.Fatalf("%v (%+v)", err, issue)
				}
				if !strings.Contains(issue.Err.Error(), r.text) {
					t.Errorf("%q does not say what to do", issue.Err)
				}
				wantHeld(t, w, host, r.state)
				n := w.orders(host)
				w.mustGet("b.example.com") // nothing of that is the CA's
				for range 23 {
					time.Sleep(time.Hour)
					w.restart()
					if err := w.m.Start(t.Context()); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					err := w.wantErr(host, certmgr.ErrBackoff)
					if again, ok := errors.AsType[*certmgr.IssuanceError](err); !ok || again.State != r.state || again.UnpauseURL != issue.UnpauseURL {
						t.Fatalf("after a restart: %v", err)
					}
				}
				wantHeld(t, w, host, r.state)
				w.wantOrders(host, n)
				lift()
				time.Sleep(4 * time.Hour)
				w.mustGet(host)
			})
		})
	}
}

// wantHeld checks what is told about a held host.
func wantHeld(t *testing.T, w *world, host string, state certmgr.HostState) {
	t.Helper()
	link := ""
	if state == certmgr.StatePaused {
		link = unpauseLink
	}
	for _, st := range w.m.Snapshot().Hosts {
		if st.Host == host && (st.State != state || st.Failure == nil || st.Failure.State != state || st.Failure.UnpauseURL != link) {
			t.Errorf("the snapshot says %+v, %+v", st, st.Failure)
		}
	}
	if n := w.m.Metrics().Hosts[state]; n != 1 {
		t.Errorf("the metrics say that %d hosts are %s", n, state)
	}
	events := append(w.events.of(audit.IssuanceFailed), w.events.of(audit.BackoffRestored)...)
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil || e.State != string(state) || e.ExplanationURL != link || !strings.Contains(string(line), link) {
			t.Errorf("event %v", e)
		}
	}
	if len(events) == 0 {
		t.Error("no event")
	}
}

// What an operator does about a held host is tried at once.
func TestHeldHostIsTriedForAnOperator(t *testing.T) {
	const host = "a.example.com"
	for name, act := range map[string]func(w *world) error{
		"Obtain":         func(w *world) error { return w.m.Obtain(w.t.Context(), host) },
		"Renew":          func(w *world) error { return w.m.Renew(w.t.Context(), host) },
		"Add":            func(w *world) error { return w.m.Hosts.Add(host) },
		"Remove and Add": func(w *world) error { w.m.Hosts.Remove(host); time.Sleep(time.Second); return w.m.Hosts.Add(host) },
		"Replace": func(w *world) error {
			if err := w.m.Hosts.Replace("b.example.com"); err != nil {
				return err
			}
			time.Sleep(time.Second)
			return w.m.Hosts.Replace("b.example.com", host)
		},
		"restart with another Email": func(w *world) error { w.restart(); w.m.Email = "ops@example.org"; return nil },
		"restart with another binding": func(w *world) error {
			w.restart()
			w.m.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: "1", Key: []byte("a key of an account")}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				lift := pauseHost(w, host)
				w.get(host)
				time.Sleep(time.Minute)
				w.wantErr(host, certmgr.ErrBackoff)
				lift()
				if err := act(w); err != nil {
					t.Fatal(err)
				}
				w.mustGet(host)
			})
		})
	}
}

// Any number of hosts may be paused or rejected at a time. The CA works.
func TestHeldHostsAreNotTheCAsFault(t *testing.T) {
	for name, r := range rejections() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				hosts := []string{"www.one.com", "www.two.com", "www.three.com", "www.four.com"}
				w.m.Hosts.Add(hosts...)
				for _, host := range hosts {
					r.make(w, host)
					w.get(host)
				}
				if n := len(w.events.of(audit.CAUnavailable)); n > 0 {
					t.Errorf("%d events say that the CA is out of service", n)
				}
				w.mustGet("a.example.com")
			})
		})
	}
}

// Failures that may go away by themselves hold nothing for a day.
func TestOrdinaryFailuresAreNotHeld(t *testing.T) {
	for name, p := range map[string]acmetest.Problem{
		"CAA cannot be looked up":  {Type: "caa", Detail: "DNS problem: SERVFAIL looking up CAA for example.com"},
		"unauthorized":             {Type: "unauthorized", Detail: "the wrong key authorization"},
		"dns":                      {Type: "dns", Detail: "no such name"},
		"rate limit of that name":  {Type: "rateLimited", Detail: "too many failed authorizations for unpause.example.com"},
		"connection":               {Type: "connection", Detail: "refused"},
		"server error with a type": {Type: "serverInternal", Detail: "Cannot issue for now"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.ca.FailValidation("a.example.com", "", p)
				_, err := w.get("a.example.com")
				issue, ok := errors.AsType[*certmgr.IssuanceError](err)
				if !ok || issue.State != certmgr.StateBackoff || time.Until(issue.RetryAt) > 2*time.Minute {
					t.Errorf("%v (%+v)", err, issue)
				}
			})
		})
	}
}

// A renewal that the CA refuses is tried once a day, and the certificate served.
func TestHeldRenewalIsTriedDaily(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		pauseHost(w, "a.example.com")
		n := w.orders("a.example.com")
		time.Sleep(75 * day)
		w.mustGet("a.example.com")
		st := w.m.Snapshot().Hosts[0]
		if st.State != certmgr.StateValid || st.Failure == nil || st.Failure.State != certmgr.StatePaused {
			t.Errorf("the snapshot says %+v", st)
		}
		if d := w.orders("a.example.com") - n; d < 2 || d > 16 {
			t.Errorf("%d orders in about 15 days", d)
		}
	})
}

// What to add to the CAA records is in the CA's directory.
func TestCAAAdviceNamesTheIssuer(t *testing.T) {
	for name, meta := range map[string]string{
		`add CAA 0 issue "ca.example", then`: `"caaIdentities": ["ca.example", "other.example"]`,
		`whose documentation has the value`:  `"website": "https://ca.example"`,
	} {
		inBubble(t, func(t *testing.T, w *world) {
			w.ca.Edit(acmetest.Match{Endpoint: acmetest.Directory}, func(r *acmetest.Reply) {
				r.Body = []byte(strings.Replace(string(r.Body), "{", `{"meta": {`+meta+`}, `, 1))
			})
			w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "caa", Detail: "CAA record for example.com prevents issuance"})
			_, err := w.get("a.example.com")
			var failure *certmgr.IssuanceError
			if !errors.As(err, &failure) || !strings.Contains(failure.Error(), name) || failure.State != certmgr.StateRejected {
				t.Errorf("the error is %v, want one that says %q", failure, name)
			}
		})
	}
}
