package certmgr

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// afterIssued is a keeper that does something more when a certificate was issued.
type afterIssued struct {
	keeper
	then func()
}

func (k afterIssued) scheduleIssued(c *certificate) {
	k.keeper.scheduleIssued(c)
	k.then()
}

// A certificate that comes too late is not served, but kept for the host's return.
func TestCertificateOfARemovedHostIsNotPublished(t *testing.T) {
	type moment func(w *insides, cancel context.CancelCauseFunc)
	nothing := func(*insides, context.CancelCauseFunc) {}
	cases := map[string]struct {
		concluded moment // before the outcome is
		published moment // when the certificate was
		dropped   bool   // it was in service for a moment
	}{
		"off the list": {
			concluded: func(w *insides, _ context.CancelCauseFunc) { w.m.Hosts.Remove("a.example.com") },
			published: nothing,
		},
		"refused by the policy": {
			concluded: func(_ *insides, cancel context.CancelCauseFunc) { cancel(takenOff("a.example.com", "", nil)) },
			published: nothing,
		},
		"published a moment ago": {
			concluded: nothing,
			published: func(w *insides, cancel context.CancelCauseFunc) {
				w.m.engine.unwatch() // who removes it has looked already
				w.m.Hosts.Remove("a.example.com")
				cancel(takenOff("a.example.com", "", nil))
			},
			dropped: true,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inside(t, func(t *testing.T, w *insides) {
				is, sub := w.m.engine.operator.issuer, hostSubject("a.example.com", bundle.ECDSA, w.m.engine.dir)
				out := outcome{cert: certFor(t, sub), data: []byte("the entry"), stage: audit.StageFinalize}
				ctx, cancel := context.WithCancelCause(t.Context())
				is.keeper = afterIssued{is.keeper, func() { c.published(w, cancel) }}
				c.concluded(w, cancel)
				synctest.Wait()

				if cert, err := is.conclude(ctx, newIssuance(issueRequest{sub: sub}), out); cert != nil || !errors.Is(err, ErrHostNotAllowed) {
					t.Errorf("those who wait got certificate %v and error %v", cert != nil, err)
				}
				if certs := is.memory.certificates("a.example.com"); len(certs) != 0 {
					t.Error("the certificate is in memory")
				}
				if data, err := w.cache.Get(t.Context(), "a.example.com"); string(data) != "the entry" {
					t.Errorf("the CA's certificate is not in the cache: %v", err)
				}
				canceled, dropped := w.events(audit.IssuanceCanceled), w.events(audit.HostDropped)
				if c.dropped {
					if len(canceled) != 0 || len(dropped) != 1 {
						t.Errorf("events: %v, %v", canceled, dropped)
					}
				} else if len(canceled) != 1 || canceled[0].Serial == "" || !strings.Contains(canceled[0].Reason, "in the Cache") {
					t.Errorf("events: %v, %v", canceled, dropped)
				}
				if snap := w.m.Snapshot(); snap.CAFailure != nil || len(snap.RecentFailures) != 0 || len(snap.Hosts) != 0 {
					t.Errorf("it counts as a failure: %+v", snap)
				}
			})
		})
	}
}
