package certmgr

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/cases"
)

// H10 (hostile review): whatever allows strangers' names, the hosts in memory have a
// cap, and what makes way there makes way in the schedule of renewals too.
func TestStrangersMakeWayEverywhere(t *testing.T) {
	for name, policy := range map[string]HostPolicy{
		"AllowAnyHost":         AllowAnyHost,
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
				if n := len(w.m.engine.report.memory.all()); n > 10 {
					t.Errorf("%d certificates in memory, want 10", n)
				}
			})
		})
		table.Run(t, "H10/"+name+", renewals", func(t *cases.T) {
			visited(t, func(t *cases.T, w *world) {
				r := w.m.engine.report.schedule
				r.mu.Lock()
				defer r.mu.Unlock()
				if n := len(r.items); n > 10 {
					t.Errorf("%d subjects in the schedule, want 10", n)
				}
			})
		})
	}
}

// strangersWorld is a bubble with a cap on the hosts in memory that the list does not
// hold.
func strangersWorld(t *cases.T, policy HostPolicy, most int, f func(t *cases.T, w *world)) {
	t.Helper()
	t.Bubble(func(t *cases.T) {
		w := newWorld(t.T)
		defer w.close()
		w.m.Hosts, w.m.HostPolicy = nil, policy
		w.m.init()
		w.m.engine.report.memory.maxUntrusted = most
		f(t, w)
	})
}

// H21 (hostile review): a preflight asks no address that a CA would not, such as a
// cloud's metadata service, in whatever way it is written. A name's owner chooses its
// addresses.
func TestPreflightAsksNoInnerAddress(t *testing.T) {
	for _, tt := range []struct {
		addr  string
		asked bool
	}{
		{"192.0.2.1", true}, // documentation, and what tests have in the place of public ones
		{"2001:db8::1", true},
		{"10.0.0.1", true}, // a private CA reaches it
		{"fd00::1", true},
		{"127.0.0.1", false},
		{"::1", false},
		{"::ffff:127.0.0.1", false},
		{"::127.0.0.1", false},
		{"0.0.0.0", false},
		{"0.1.2.3", false},
		{"::", false},
		{"169.254.169.254", false},
		{"fe80::1", false},
		{"224.0.0.1", false},
		{"240.0.0.1", false},
		{"255.255.255.255", false},
		{"100.100.100.200", false},    // metadata of Alibaba Cloud
		{"168.63.129.16", false},      // of Azure
		{"192.0.0.192", false},        // of Oracle Cloud
		{"fd00:ec2::254", false},      // of AWS
		{"64:ff9b::a9fe:a9fe", false}, // 169.254.169.254 through NAT64
		{"64:ff9b::7f00:1", false},    // 127.0.0.1
		{"2002:7f00:1::", false},      // 127.0.0.1 through 6to4
	} {
		table.Run(t, "H21/"+tt.addr, func(t *cases.T) {
			if _, not := unaskable(netip.MustParseAddr(tt.addr).Unmap()); not == tt.asked {
				t.Errorf("asked: %v, want %v", !not, tt.asked)
			}
		})
	}
}

// However many issuances of strangers are in flight, hosts that have a certificate
// are renewed.
func TestStrangersKeepNobodyFromRenewal(t *testing.T) {
	policyWorld(t, AllowAnyHost, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Unresolve("*")
		w.ca.Resolve("a.example.com", acmetest.Target{TLSConfig: w.m.TLSConfig()})
		w.ca.EditCertificate("a.example.com", func(c *x509.Certificate) { c.NotBefore = time.Now(); c.NotAfter = time.Now().Add(40 * time.Minute) })
		w.get("a.example.com")
		time.Sleep(time.Minute)
		if _, err := w.get("a.example.com"); err != nil {
			t.Fatal(err)
		}
		w.ca.Delay(acmetest.Match{Endpoint: acmetest.NewOrder}, 20*time.Second)
		n := 0
		for range 80 {
			time.Sleep(30 * time.Second)
			for w.m.engine.operator.issuer.unlisted.untrusted.Load() < maxUntrusted {
				w.get(fmt.Sprintf("www.stranger%d.com", n))
				n++
			}
		}
		if _, err := w.get("a.example.com"); err != nil {
			t.Errorf("%d strangers' names, %d orders for a: %v", n, w.orders("a.example.com"), err)
		}
	})
}

// Failure records of strangers do not stay in the cache for ever.
func TestStrangersLeaveNoRecordsInTheCache(t *testing.T) {
	policyWorld(t, AllowAnyHost, func(t *testing.T, w *world) {
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
