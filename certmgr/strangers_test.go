package certmgr_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/cases"
)

// H10 (hostile review): whatever allows strangers' names, the hosts in memory have a
// cap, and what makes way there makes way in the schedule of renewals too.
func TestStrangersMakeWayEverywhere(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]certmgr.HostPolicy{
		"AllowAnyHost":         certmgr.AllowAnyHost,
		"policy that says yes": func(context.Context, string) error { return nil },
	} {
		visited := func(t *cases.T, f func(t *cases.T, w *world)) {
			strangersWorld(t, policy, 10, func(t *cases.T, w *world) {
				for i := range 30 {
					if _, err := w.get(fmt.Sprintf("www.stranger%d.com", i)); err != nil {
						t.Fatal(err)
					}
				}
				f(t, w)
			})
		}
		table.Run(t, "H10/"+name+", memory", func(t *cases.T) {
			visited(t, func(t *cases.T, w *world) {
				if n := certmgr.InMemory(w.m, ""); n > 10 {
					t.Errorf("%d certificates in memory, want 10", n)
				}
			})
		})
		table.Run(t, "H10/"+name+", renewals", func(t *cases.T) {
			visited(t, func(t *cases.T, w *world) {
				if n := certmgr.Scheduled(w.m); n > 10 {
					t.Errorf("%d subjects in the schedule, want 10", n)
				}
			})
		})
	}
}

// A host that made way is served from the Cache at its next visit, without an order,
// and renewed from then on.
func TestHostThatMadeWayComesBack(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]certmgr.HostPolicy{
		"AllowAnyHost":         certmgr.AllowAnyHost,
		"policy that says yes": func(context.Context, string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			policyWorld(t, policy, func(t *testing.T, w *world) {
				certmgr.LimitStrangers(w.m, 3)
				host := func(i int) string { return fmt.Sprintf("www.tenant%d.com", i) }
				var first []*x509.Certificate
				for i := range 10 {
					first = append(first, w.mustGet(host(i)).Leaf)
					time.Sleep(time.Minute)
				}
				if n := certmgr.WatchedHosts(w.m); n > 3 {
					t.Errorf("visits of %d hosts are remembered, want 3", n)
				}
				if warnings := w.m.Snapshot().Warnings; len(warnings) != 1 {
					t.Errorf("warnings: %q", warnings)
				}
				for i := range 10 {
					if !w.mustGet(host(i)).Leaf.Equal(first[i]) {
						t.Errorf("%s has another certificate", host(i))
					}
					w.wantOrders(host(i), 1)
				}
				time.Sleep(70 * day) // all are due, and none is expired
				for i := range 10 {
					w.mustGet(host(i))
					time.Sleep(10 * time.Minute)
				}
				for i := range 10 {
					w.wantOrders(host(i), 2)
				}
				if m, s := certmgr.InMemory(w.m, ""), certmgr.Scheduled(w.m); m != 3 || s != 3 {
					t.Errorf("%d certificates in memory and %d in the schedule, want 3", m, s)
				}
			})
		})
	}
}

// strangersWorld is a bubble with a cap on the hosts in memory that the list does not
// hold.
func strangersWorld(t *cases.T, policy certmgr.HostPolicy, most int, f func(t *cases.T, w *world)) {
	t.Helper()
	t.Bubble(func(t *cases.T) {
		w := newWorld(t.T)
		defer w.close()
		w.m.Hosts, w.m.HostPolicy = nil, policy
		certmgr.LimitStrangers(w.m, most)
		f(t, w)
	})
}

// However many issuances of strangers are in flight, hosts that have a certificate
// are renewed.
func TestStrangersKeepNobodyFromRenewal(t *testing.T) {
	t.Parallel()
	policyWorld(t, certmgr.AllowAnyHost, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Unresolve("*")
		w.ca.Resolve("a.example.com", acmetest.Target{TLSConfig: w.m.TLSConfig()})
		w.ca.EditCertificate("a.example.com", func(c *x509.Certificate) { c.NotBefore = time.Now(); c.NotAfter = time.Now().Add(20 * time.Minute) })
		w.get("a.example.com")
		time.Sleep(time.Minute)
		if _, err := w.get("a.example.com"); err != nil {
			t.Fatal(err)
		}
		w.ca.Delay(acmetest.Match{Endpoint: acmetest.NewOrder}, 20*time.Second)
		n := 0
		missing := func() int { snap := w.m.Snapshot(); return 256 - snap.Issuing - snap.Queued }
		for range 40 {
			time.Sleep(30 * time.Second)
			for more := missing(); more > 0; more = missing() {
				for range more {
					w.get(fmt.Sprintf("www.stranger%d.com", n))
					n++
				}
			}
		}
		if _, err := w.get("a.example.com"); err != nil {
			t.Errorf("%d strangers' names, %d orders for a: %v", n, w.orders("a.example.com"), err)
		}
	})
}

// Failure records of strangers do not stay in the cache for ever.
func TestStrangersLeaveNoRecordsInTheCache(t *testing.T) {
	policyWorld(t, certmgr.AllowAnyHost, func(t *testing.T, w *world) {
		w.ca.Unresolve("*")
		for i := range 50 {
			w.get(fmt.Sprintf("www.stranger%d.com", i))
		}
		for range 30 {
			time.Sleep(day)
			w.get("www.stranger0.com")
		}
		n := 0
		for i := range 50 {
			if _, err := w.cache.Cache.Get(t.Context(), fmt.Sprintf("www.stranger%d.com+failure", i)); err == nil {
				n++
			}
		}
		if n > 1 {
			t.Errorf("%d records of strangers are still there after 30 days", n)
		}
	})
}
