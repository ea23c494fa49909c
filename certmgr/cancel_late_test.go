package certmgr

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
				w.m.Hosts.Remove("a.example.com")
				cancel(takenOff("a.example.com", "", nil))
			},
			dropped: true,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inside(t, func(t *testing.T, w *insides) {
				is, sub := w.m.engine.operator.issuer, newSubject(bundle.ECDSA, w.m.engine.dir, "a.example.com")
				out := outcome{cert: certFor(t, sub), data: []byte("the entry"), stage: audit.StageFinalize}
				ctx, cancel := context.WithCancelCause(t.Context())
				is.keeper = afterIssued{is.keeper, func() { c.published(w, cancel) }}
				c.concluded(w, cancel)
				synctest.Wait()

				if cert, err := is.conclude(ctx, newIssuance(issueRequest{sub: sub}, time.Now()), out); cert != nil || !errors.Is(err, ErrHostNotAllowed) {
					t.Errorf("those who wait got certificate %v and error %v", cert != nil, err)
				}
				synctest.Wait()
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

// endlessLock is a locker that nobody gets a lock from.
type endlessLock struct{}

func (endlessLock) lock(ctx context.Context, _ []string) (func(), error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// Whatever is begun or brought into service at the moment in which its host is taken off
// the list is either refused, or found by the removal: nothing of the host stays.
func TestRemovalLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	const host = "a.example.com"
	ctx := context.Background() // what is raced against ends by itself
	races := map[string]func(t *testing.T, w *insides, sub subject) func(){
		"a certificate is issued": func(t *testing.T, w *insides, sub subject) func() {
			out := outcome{cert: certFor(t, sub), data: []byte("the entry"), stage: audit.StageFinalize}
			is := w.m.engine.operator.issuer
			return func() {
				is.conclude(ctx, newIssuance(issueRequest{sub: sub, grant: grant{trust: listed}}, time.Now()), out)
			}
		},
		"a certificate is loaded": func(t *testing.T, w *insides, sub subject) func() {
			cert := certFor(t, sub)
			entry, err := bundle.Encode(cert.key, cert.chain)
			if err != nil {
				t.Fatal(err)
			}
			w.cache.Put(ctx, sub.cacheKey(), entry)
			loader := w.m.engine.server.loader
			return func() { loader.read(ctx, sub, grant{trust: listed}, quietly) }
		},
		"an issuance begins": func(t *testing.T, w *insides, sub subject) func() {
			is := w.m.engine.operator.issuer
			is.locks.locker = endlessLock{}
			return func() { is.begin(issueRequest{sub: sub, grant: grant{trust: listed}}, nil) }
		},
	}
	for name, prepare := range races {
		t.Run(name, func(t *testing.T) {
			inside(t, func(t *testing.T, w *insides) {
				sub := newSubject(bundle.ECDSA, w.m.engine.dir, host)
				for range 300 {
					race := prepare(t, w, sub)
					var wg sync.WaitGroup
					wg.Go(race)
					wg.Go(func() { w.m.Hosts.Remove(host) })
					wg.Wait()
					synctest.Wait()
					wantNothingOf(t, w.m, host)
					w.m.Hosts.Add(host)
				}
			})
		})
	}
}

// beforeScheduled is a keeper that does something before it schedules a certificate.
type beforeScheduled struct {
	keeper
	first func()
}

func (k beforeScheduled) scheduleIssued(c *certificate) {
	k.first()
	k.keeper.scheduleIssued(c)
}

// A host that is dropped after its certificate was published, and before that was
// scheduled, does not stay on the schedule.
func TestHostThatWasDroppedIsNotScheduled(t *testing.T) {
	inside(t, func(t *testing.T, w *insides) {
		sub := newSubject(bundle.ECDSA, w.m.engine.dir, "a.example.com")
		is := w.m.engine.operator.issuer
		is.keeper = beforeScheduled{is.keeper, func() {
			w.m.Hosts.Remove(sub.host())
			synctest.Wait()
		}}
		req := issueRequest{sub: sub, grant: grant{trust: listed}}
		is.conclude(t.Context(), newIssuance(req, time.Now()), outcome{cert: certFor(t, sub), data: []byte("the entry")})
		wantNothingOf(t, w.m, sub.host())
	})
}

// wantNothingOf checks that a Manager is not concerned with a host, nor with any other.
func wantNothingOf(t *testing.T, m *Manager, host string) {
	t.Helper()
	r := m.engine.report
	if len(r.memory.certificates(host)) != 0 {
		t.Fatal("its certificate is in memory")
	}
	r.schedule.mu.Lock()
	scheduled := r.schedule.items.Len()
	r.schedule.mu.Unlock()
	if scheduled != 0 {
		t.Fatal("it is on the schedule")
	}
	if r.issuer.issues.Running(newSubject(bundle.ECDSA, m.engine.dir, host)) != nil {
		t.Fatal("its issuance is in flight")
	}
}
