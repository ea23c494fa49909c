package acmeclient

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// However many attempts begin together, nonces are requested at a pace that
// Let's Encrypt allows, and the answers to others' requests are used meanwhile.
func TestNoncesAreRequestedAtAPace(t *testing.T) {
	for name, tt := range map[string]struct {
		delay    time.Duration // of all other requests
		most     time.Duration // for all attempts
		requests int           // for nonces, at most
	}{
		"slow CA": {5 * time.Second, 5*time.Second + (64-16)*50*time.Millisecond, 64},
		"fast CA": {time.Millisecond, 100 * time.Millisecond, 18},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				ca := s.ca(s.Client())
				if err := s.discover(t, ca); err != nil {
					t.Fatal(err)
				}
				ca.nonces.clear()
				s.Delay(at(acmetest.Order), tt.delay)
				before := time.Now()
				const attempts = 64
				errs := make(chan error, attempts)
				for range attempts {
					go func() { errs <- s.getOrder(t, ca) }()
				}
				synctest.Wait()
				if n := s.Count(acmetest.NewNonce) - s.before[acmetest.NewNonce]; n > 16 {
					t.Errorf("%d requests for nonces at once", n)
				}
				for range attempts {
					if err := <-errs; err != nil {
						t.Fatal(err)
					}
				}
				if took := time.Since(before); took > tt.most {
					t.Errorf("took %v, want %v at most", took, tt.most)
				}
				if n := s.Count(acmetest.NewNonce) - s.before[acmetest.NewNonce]; n > tt.requests {
					t.Errorf("%d requests for nonces, want %d at most", n, tt.requests)
				}
			})
		})
	}
}

// Whoever stops waiting for a nonce leaves nothing behind, and loses none.
func TestNonceWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p noncePool
		for range nonceBurst {
			if v, err := p.take(t.Context(), time.Now()); v != "" || err != nil {
				t.Fatalf("take = %q, %v; want to fetch one", v, err)
			}
		}
		gone, leave := context.WithCancel(t.Context())
		for range 3 {
			go p.take(gone, time.Now())
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		if _, err := p.take(gone, time.Now()); !errors.Is(err, context.Canceled) {
			t.Errorf("take after the end: %v", err)
		}
		got := make(chan string)
		go func() {
			v, _ := p.take(t.Context(), time.Now())
			got <- v
		}()
		synctest.Wait()
		p.push("a", time.Now())
		if v := <-got; v != "a" {
			t.Errorf("the one that waits got %q, want a", v)
		}
		begun := time.Now()
		if v, err := p.take(t.Context(), time.Now()); v != "" || err != nil || time.Since(begun) != nonceEvery {
			t.Errorf("take = %q, %v after %v; want to fetch one after %v", v, err, time.Since(begun), nonceEvery)
		}
		if len(p.waiting) != 0 || len(p.nonces) != 0 {
			t.Errorf("left behind: %d waiters, %d nonces", len(p.waiting), len(p.nonces))
		}
	})
}
