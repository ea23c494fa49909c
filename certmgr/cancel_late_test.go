package certmgr

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
)

// afterIssued is a keeper that does something more when a certificate was issued.
type afterIssued struct {
	keeper
	then func()
}

func (k afterIssued) issued(c *certificate) {
	k.keeper.issued(c)
	k.then()
}

// A certificate that comes too late is not served, but kept for the host's return.
func TestCertificateOfARemovedHostIsNotPublished(t *testing.T) {
	// remove is called before the outcome is concluded, or when it was published.
	conclude := func(w *world, before, published func(cancel context.CancelCauseFunc)) error {
		w.mustGet("a.example.com")
		is, sub := w.m.engine.operator.issuer, hostSubject("a.example.com", bundle.ECDSA, w.m.engine.dir)
		out := outcome{cert: is.memory.current(sub), data: []byte("the entry"), stage: audit.StageFinalize}
		w.m.engine.report.memory.drop("a.example.com")
		ctx, cancel := context.WithCancelCause(context.Background())
		is.keeper = afterIssued{is.keeper, func() { published(cancel) }}
		before(cancel)
		synctest.Wait()
		a := &attempt{host: "a.example.com", sub: sub, setStage: func(audit.Stage) {}, now: is.now, trace: new(acmeclient.Trace), audit: is.audit.Emit}
		cert, err := is.conclude(ctx, a, issueRequest{sub: sub}, out, nil, false)
		if cert != nil {
			w.t.Error("those who wait got the certificate")
		}
		return err
	}
	nothing := func(context.CancelCauseFunc) {}
	cases := map[string]func(w *world) error{
		"off the list": func(w *world) error {
			return conclude(w, func(context.CancelCauseFunc) { w.m.Hosts.Remove("a.example.com") }, nothing)
		},
		"refused by the policy": func(w *world) error {
			return conclude(w, func(cancel context.CancelCauseFunc) { cancel(takenOff("a.example.com", "", nil)) }, nothing)
		},
		"published a moment ago": func(w *world) error {
			return conclude(w, nothing, func(cancel context.CancelCauseFunc) {
				w.m.engine.unwatch() // who removes it has looked already
				w.m.Hosts.Remove("a.example.com")
				cancel(takenOff("a.example.com", "", nil))
			})
		},
	}
	for name, run := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				if err := run(w); !errors.Is(err, ErrHostNotAllowed) {
					t.Errorf("got %v", err)
				}
				if certs := w.m.engine.report.memory.certificates("a.example.com"); len(certs) != 0 {
					t.Error("the certificate is in memory")
				}
				if data, err := w.cache.Get(t.Context(), "a.example.com"); string(data) != "the entry" {
					t.Errorf("the CA's certificate is not in the cache: %v", err)
				}
				canceled, dropped := w.events.of(audit.IssuanceCanceled), w.events.of(audit.HostDropped)
				if name == "published a moment ago" {
					if len(canceled) != 0 || len(dropped) != 1 {
						t.Errorf("events: %v", w.events)
					}
				} else if len(canceled) != 1 || canceled[0].Serial == "" || !strings.Contains(canceled[0].Reason, "in the Cache") {
					t.Errorf("events: %v", w.events)
				}
				w.wantNoTrouble()
			})
		})
	}
}
