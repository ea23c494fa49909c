package certmgr_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// At each step of an issuance the machine that has the lock is killed, or stopped for
// longer than its lease and continued. Another machine takes over in time, with the same
// order, and the first one neither asks the CA for anything more nor stores anything.
func TestFleetTakesOver(t *testing.T) {
	t.Parallel()
	const host = "a.example.com"
	steps := undisturbed(t, host)
	for _, pause := range []time.Duration{0, 2 * testLease} {
		for _, after := range []bool{false, true} {
			for at := 1; at <= len(steps); at++ {
				what := "killed"
				if pause > 0 {
					what = "stopped"
				}
				when := "before"
				if after {
					when = "after"
				}
				t.Run(fmt.Sprintf("%s %s step %d %s", what, when, at, strings.ReplaceAll(steps[at-1], "/", "_")), func(t *testing.T) {
					takeOver(t, host, at, after, pause)
				})
			}
		}
	}
}

// undisturbed returns the steps of an issuance that nothing happens to.
func undisturbed(t *testing.T, host string) (steps []string) {
	atSite(t, func(t *testing.T, s *site) {
		m := s.machine(host)
		s.await(m, host, 10*time.Second)
		synctest.Wait()
		steps = m.madeSince(0)
	})
	return steps
}

func takeOver(t *testing.T, host string, at int, after bool, pause time.Duration) {
	atSite(t, func(t *testing.T, s *site) {
		first, second := s.machine(host), s.machine(host)
		first.at, first.after, first.pause = at, after, pause
		first.begin(t, host)
		for range 100 { // until it is struck
			if time.Sleep(10 * time.Millisecond); first.isStruck() {
				break
			}
		}
		synctest.Wait()
		sent := len(first.madeSince(0))
		cert, took := s.await(second, host, takeover)
		t.Logf("taken over after %v", took)
		time.Sleep(pause + testLease)
		synctest.Wait()
		if valid, all := s.orders(host); valid != 1 || all > 2 {
			t.Errorf("%d of %d orders are valid", valid, all)
		}
		for _, step := range first.madeSince(sent) {
			if strings.HasPrefix(step, "CA ") && !isUnsigned(step) {
				t.Errorf("it went on with %q", step)
			}
		}
		data, err := s.store.Get(t.Context(), host)
		if err != nil {
			t.Fatal(err)
		}
		if got := serialOf(storedLeaf(t, data)); got != serialOf(cert.Leaf) {
			t.Errorf("the store has certificate %s, want %s", got, serialOf(cert.Leaf))
		}
		if pause > 0 {
			again, _ := s.await(first, host, 10*time.Second)
			if serialOf(again.Leaf) != serialOf(cert.Leaf) {
				t.Errorf("the first machine serves another certificate")
			}
		}
		if pause == 0 {
			return
		}
		if _, err := s.store.Get(t.Context(), host+"+order"); err != cache.ErrMiss {
			t.Errorf("the order's entry is left: %v", err)
		}
		// It knows that the order, which it has in memory, was finished by the other one.
		if err := first.Renew(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		if renewed, _ := s.await(first, host, 0); serialOf(renewed.Leaf) == serialOf(cert.Leaf) {
			t.Error("Renew had the other machine's order")
		}
	})
}

// isUnsigned reports whether a request leaves nothing at the CA.
func isUnsigned(step string) bool {
	return slices.ContainsFunc([]string{"directory", "nonce", "renewal-info"}, func(s string) bool { return strings.Contains(step, s) })
}

// storedLeaf returns the certificate of an entry.
func storedLeaf(t *testing.T, data []byte) *x509.Certificate {
	t.Helper()
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return leaf
	}
	t.Fatal("the entry has no certificate")
	return nil
}

// A machine that was stopped before it stored its certificate does not overwrite what
// others have stored since, and serves that.
func TestFleetStoppedMachineOverwritesNothing(t *testing.T) {
	const host = "a.example.com"
	steps := undisturbed(t, host)
	at := slices.Index(steps, "put "+host) + 1
	for _, ends := range []string{"while the lock is held", "while it is free"} {
		t.Run(ends, func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				first, second := s.machine(host), s.machine(host)
				first.at, first.pause = at, 2*testLease
				first.begin(t, host)
				time.Sleep(time.Second)
				old, _ := s.await(second, host, takeover)
				time.Sleep(2 * time.Second)
				if err := second.Renew(t.Context(), host); err != nil {
					t.Fatal(err)
				}
				want, _ := s.await(second, host, 0)
				if serialOf(want.Leaf) == serialOf(old.Leaf) {
					t.Fatal("not renewed")
				}
				synctest.Wait()
				if ends == "while the lock is held" {
					if _, err := s.store.Lock(t.Context(), host+"+issue", "a test", 5*time.Minute); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(2 * testLease)
				data, err := s.store.Get(t.Context(), host)
				if err != nil {
					t.Fatal(err)
				}
				if got := serialOf(storedLeaf(t, data)); got != serialOf(want.Leaf) {
					t.Errorf("the store has certificate %s, want %s", got, serialOf(want.Leaf))
				}
				got, _ := s.await(first, host, 0)
				if serialOf(got.Leaf) != serialOf(want.Leaf) {
					t.Error("it serves its own certificate, which is older")
				}
				if lost := first.events.of(audit.CacheWriteRecovered); len(lost) > 0 {
					t.Errorf("it says that it has stored it: %v", lost)
				}
			})
		})
	}
}
