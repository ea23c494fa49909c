package certmgr_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// Renew of a certificate that is not due fails: the caller and one event are
// told, and nothing else remembers it, at whatever stage it failed.
func TestFailedRenewOfWhatIsNotDueLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(w *world) (lift func()){
		"order": func(w *world) func() {
			return w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 403, nil, acmetest.Problem{Type: "rejectedIdentifier", Detail: "no"}).Lift
		},
		"CA that answers nothing": func(w *world) func() { return w.ca.Drop(acmetest.Match{}).Lift },
		"CA that fails": func(w *world) func() {
			return w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 500, nil, acmetest.Problem{Type: "serverInternal"}).Lift
		},
		"rate limit": func(w *world) func() {
			return w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 429, nil, acmetest.Problem{Type: "rateLimited", Detail: "too many certificates for a.example.com"}).Lift
		},
		"challenge": func(w *world) func() {
			w.ca.Resolve("*", acmetest.Target{})
			return w.reach
		},
		"finalize": func(w *world) func() {
			return w.ca.Status(acmetest.Match{Endpoint: acmetest.Finalize}, 403, nil, acmetest.Problem{Type: "caa", Detail: "no"}).Lift
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.mustGet("a.example.com")
				before := w.m.Snapshot().Hosts[0]
				lift := fail(w)
				err := w.m.Renew(t.Context(), "a.example.com")
				issue, ok := errors.AsType[*certmgr.IssuanceError](err)
				if !ok || !issue.RetryAt.Equal(before.RenewAt) || issue.Attempts != 1 {
					t.Errorf("Renew: %v, want an IssuanceError whose next attempt is the planned renewal at %v", err, before.RenewAt)
				}
				w.m.Renew(t.Context(), "a.example.com")
				if told := w.events.of(audit.IssuanceFailed); len(told) != 2 || told[1].Reason != "Renew" || !told[1].RetryAt.Equal(before.RenewAt) {
					t.Errorf("told: %v, want an event for each Renew", told)
				}
				w.mustNotRead("a.example.com+failure")
				now := w.m.Snapshot().Hosts[0]
				if now.Failure != nil || now.State != certmgr.StateValid || !now.RetryAt.IsZero() || !now.RenewAt.Equal(before.RenewAt) ||
					now.RenewalCause != before.RenewalCause {
					t.Errorf("the host's state is %+v, want that of before, %+v", now, before)
				}
				if snap := w.m.Snapshot(); !snap.CAUnavailable.IsZero() || snap.CAFailure != nil {
					t.Errorf("the CA counts as unavailable until %v: %v", snap.CAUnavailable, snap.CAFailure)
				}
				w.mustNotRead("acme_ca+failure")
				if m := w.m.Metrics(); m.BackingOff != 0 || m.RenewalsLate != 0 {
					t.Errorf("%d hosts back off, %d renewals are late", m.BackingOff, m.RenewalsLate)
				}
				lift()
				time.Sleep(time.Until(before.NotAfter) - time.Hour)
				w.mustGet("a.example.com")
				if n := len(w.events.of(audit.RenewalLate)); n != 0 {
					t.Errorf("%d events of a late renewal", n)
				}
				if n := len(w.events.of(audit.CertificateIssued)); n != 2 {
					t.Errorf("%d certificates were issued, want the first one and its renewal", n)
				}
			})
		})
	}
}

// What is due, or has no valid certificate, fails as ever.
func TestFailedRenewOfWhatIsDueIsRemembered(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 403, nil, acmetest.Problem{Type: "rejectedIdentifier", Detail: "no"})
		defer fault.Lift()
		time.Sleep(80 * day)
		before := w.m.Snapshot().Hosts[0].Failure
		if before == nil {
			t.Fatal("the renewal did not fail")
		}
		w.m.Renew(t.Context(), "a.example.com")
		if now := w.m.Snapshot().Hosts[0].Failure; now == nil || now.Attempts != before.Attempts+1 {
			t.Errorf("the failure is %v, want one more than %v", now, before)
		}
		w.m.Obtain(t.Context(), "b.example.com")
		w.wantErr("b.example.com", certmgr.ErrBackoff)
	})
}

// mustNotRead checks that the Cache has no entry.
func (w *world) mustNotRead(key string) {
	w.t.Helper()
	if _, err := w.cache.Cache.Get(w.t.Context(), key); !errors.Is(err, cache.ErrMiss) {
		w.t.Errorf("the Cache has an entry %q (error %v)", key, err)
	}
}
