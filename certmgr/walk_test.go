package certmgr

import (
	"context"
	"crypto/tls"
	"slices"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// TestWalksHoldNoLock: whoever walks over all hosts, of whatever kind, holds no
// mutex of the Manager meanwhile that a handshake would have to wait for.
func TestWalksHoldNoLock(t *testing.T) {
	inside(t, func(t *testing.T, w *insides) {
		e := w.m.engine
		sub := newSubject(bundle.ECDSA, e.report.dir, "a.example.com")
		cert := certFor(t, sub)
		e.server.memory.publish(cert, grant{trust: listed}, time.Now(), alwaysListed)
		e.report.schedule.planLoaded(cert)
		e.report.health.failures.put(sub, newTestFailure(sub, audit.StageOrder, time.Now().Add(time.Hour)), time.Now())
		issues := e.server.issuer.issues
		if _, err := issues.Start(sub, func(ctx context.Context) (*certificate, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}); err != nil {
			t.Fatal(err)
		}
		mutexes := MutexesOf(w.m)
		for what, walk := range map[string]func(visit func()){
			"memory": func(visit func()) {
				for range e.server.memory.all() {
					visit()
				}
			},
			"schedule": func(visit func()) {
				for range e.report.schedule.items.All() {
					visit()
				}
			},
			"failures": func(visit func()) {
				e.report.health.failures.all(func(string, *failure, bool) { visit() })
			},
			"issuances": func(visit func()) { issues.Each(func(*issueCall) { visit() }) },
			"canceled":  func(visit func()) { issues.Cancel(func(subject) error { visit(); return nil }) },
			"entries": func(visit func()) {
				e.report.visits.watch(func(yield func(string) bool) {
					for _, name := range []string{"a.example.com", "b.example.com"} {
						if visit(); !yield(name) {
							return
						}
					}
				}, time.Now())
			},
		} {
			visited := 0
			walk(func() {
				visited++
				if held := mutexes.Held(); len(held) > 0 {
					slices.Sort(held)
					t.Errorf("a walk over %s holds %v", what, held)
				}
			})
			if visited == 0 {
				t.Errorf("nothing was visited of %s", what)
			}
		}
	})
}

// A Snapshot, and a handshake for a host in memory, need no lock of the schedule:
// each host that is loaded takes it, and so does each that is due.
func TestScheduleIsDescribedWithoutItsLock(t *testing.T) {
	m := &Manager{Hosts: MustAllowlist("a.example.com")}
	defer m.Close()
	m.init()
	schedule := m.engine.report.schedule
	cert := certFor(t, newSubject(bundle.ECDSA, m.engine.report.dir, "a.example.com"))
	m.engine.server.memory.publish(cert, grant{trust: listed}, time.Now(), alwaysListed)
	schedule.planLoaded(cert)
	schedule.mu.Lock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if hosts := m.Snapshot().Hosts; len(hosts) != 1 || hosts[0].RenewAt.IsZero() || hosts[0].RenewalCause != RenewalCauseLifetime {
			t.Errorf("Snapshot: %+v", hosts)
		}
		hello := &tls.ClientHelloInfo{ServerName: "a.example.com", CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}
		if _, err := m.GetCertificate(hello); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute): // on a machine however busy
		t.Error("something waits for the lock of the schedule")
	}
	schedule.mu.Unlock()
	<-done
}
