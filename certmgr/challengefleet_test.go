package certmgr_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// slowStore answers each read after 2 seconds, with what it had when that began.
type slowStore struct{ *leasing }

func (s slowStore) Get(ctx context.Context, key string) ([]byte, error) {
	data, err := s.leasing.Get(ctx, key)
	select {
	case <-time.After(2 * time.Second):
		return data, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Of a load balancer's machines the CA may reach any. That one reads the answer in
// the store, however slow that is, although strangers ask for it at all times, so
// that reads which have begun too early are under way.
func TestChallengeReachesAnotherMachineWhileTheStoreIsSlow(t *testing.T) {
	for typ, orders := range map[string]int{"tls-alpn-01": 1, "http-01": 2} { // tls-alpn-01 is tried first
		t.Run(typ, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				store, machines := w.fleet()
				defer closeAll(machines)
				for _, m := range machines {
					m.Cache = slowStore{store}
				}
				target := acmetest.Target{TLSConfig: machines[1].TLSConfig()}
				if typ == "http-01" {
					machines[0].HTTPHandler(nil)
					target = acmetest.Target{HTTPHandler: machines[1].HTTPHandler(nil)}
				}
				w.ca.Resolve("*", target)
				ctx, cancel := context.WithCancel(t.Context())
				var strangers sync.WaitGroup
				for range 3 {
					strangers.Go(func() {
						for ; ctx.Err() == nil; time.Sleep(70 * time.Millisecond) {
							machines[1].GetCertificate(&tls.ClientHelloInfo{ServerName: "a.example.com", SupportedProtos: []string{"acme-tls/1"}})
						}
					})
				}
				if err := machines[0].Obtain(t.Context(), "a.example.com"); err != nil {
					t.Errorf("the challenge was not answered: %v", err)
				}
				cancel()
				strangers.Wait()
				if n := len(w.ca.Orders()); n != orders {
					t.Errorf("%d orders, want %d: the challenge was answered the first time", n, orders)
				}
			})
		})
	}
}

// A miss is not remembered, nor a failure: each request of the CA is a read of its
// own.
func TestAnswerIsFoundRightAfterAFailedRead(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		store, machines := w.fleet()
		defer closeAll(machines)
		const token = "0123456789abcdefghijkl"
		ask := func() int {
			rec := httptest.NewRecorder()
			machines[1].HTTPHandler(nil).ServeHTTP(rec, httptest.NewRequest("GET", "http://a.example.com/.well-known/acme-challenge/"+token, nil))
			return rec.Code
		}
		if code := ask(); code != http.StatusNotFound {
			t.Errorf("status %d for an answer that is not there, want 404", code)
		}
		store.down(true)
		if code := ask(); code != http.StatusServiceUnavailable {
			t.Errorf("status %d while the store is down, want 503", code)
		}
		store.down(false)
		if err := store.Put(t.Context(), token+"+http-01", []byte(token+".key")); err != nil {
			t.Fatal(err)
		}
		if code := ask(); code != http.StatusOK {
			t.Errorf("status %d for an answer that was just stored, want 200", code)
		}
	})
}
