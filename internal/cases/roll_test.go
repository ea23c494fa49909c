package cases

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// H04 (hostile review): a gateway of the CA answers a key change with 504, and
// the CA completes it later. The new key must not be lost meanwhile, or the
// account is lost.
func TestKeyChangeThatTheCACommitsLateKeepsTheAccount(t *testing.T) {
	for _, late := range []time.Duration{0, 20 * time.Second, 10 * time.Minute} {
		table.Run(t, fmt.Sprintf("H04/%v late", late), func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.m.Hosts.Add("b.example.com")
				var changes atomic.Int32
				var fixed atomic.Bool
				var committed sync.WaitGroup
				through(w, func(req *http.Request) *http.Response {
					if fixed.Load() || req.URL.Path != "/key-change" {
						return nil
					}
					if changes.Add(1) == 1 {
						payload, _ := io.ReadAll(req.Body)
						committed.Go(func() {
							time.Sleep(late)
							again := req.Clone(context.Background())
							again.Body = io.NopCloser(bytes.NewReader(payload))
							if res, err := w.ca.Client().Transport.RoundTrip(again); err == nil {
								res.Body.Close()
							}
						})
					}
					rec := httptest.NewRecorder()
					http.Error(rec, "gateway time-out", http.StatusGatewayTimeout)
					return rec.Result()
				})
				mustObtain(t, w, host)
				w.m.RollAccountKey(t.Context()) // it may fail
				committed.Wait()
				time.Sleep(5 * time.Minute)
				fixed.Store(true)
				if err := w.m.Obtain(t.Context(), "b.example.com"); err != nil {
					t.Errorf("after the change: %v", err)
				}
				w.restart(host, "b.example.com", "c.example.com")
				if err := w.m.Obtain(t.Context(), "c.example.com"); err != nil {
					t.Errorf("after a restart: %v", err)
				}
				if n := len(w.ca.Accounts()); n != 1 {
					t.Errorf("%d accounts, want 1", n)
				}
			})
		})
	}
}

// Tried by a hostile review, and held: processes whose key changes are
// interrupted at any moment keep their account.
func TestKeyChangesCutShortKeepTheAccount(t *testing.T) {
	table.Run(t, "held/key changes cut short", func(t *T) {
		bubble(t, func(t *T, w *world) {
			w.cache = &hookedCache{put: func(context.Context, string) error {
				time.Sleep(7 * time.Millisecond)
				return nil
			}}
			w.restart()
			w.ca.Delay(acmetest.Match{}, 10*time.Millisecond)
			mustObtain(t, w, host)
			for range 60 {
				w.restart()
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(300))*time.Millisecond)
				var wg sync.WaitGroup
				wg.Go(func() { w.m.RollAccountKey(ctx) })
				wg.Go(func() { w.m.Renew(ctx, host) })
				time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
				w.m.Close()
				wg.Wait()
				cancel()
			}
			w.restart()
			if err := w.m.Renew(t.Context(), host); err != nil {
				t.Errorf("at the end: %v", err)
			}
			if n := len(w.ca.Accounts()); n != 1 {
				t.Errorf("%d accounts, want 1", n)
			}
		})
	})
}

// H08 (hostile review): an attempt that is canceled, by the list or by the end
// of the process, is paced like a failed one: repeating it does not cause an
// order each time.
func TestAttemptsCutShortArePaced(t *testing.T) {
	const most = 20 // orders in 10 minutes
	slow := func(ca *acmetest.Server) { ca.Delay(acmetest.Match{Endpoint: acmetest.Challenge}, 3*time.Second) }
	table.Run(t, "H08/list that flaps", func(t *T) {
		bubbleCA(t, slow, func(t *T, w *world) {
			w.m.Hosts.Add("b.example.com")
			var visits sync.WaitGroup
			for begin := time.Now(); time.Since(begin) < 10*time.Minute; {
				w.m.Hosts.Replace("b.example.com")
				time.Sleep(500 * time.Millisecond)
				w.m.Hosts.Replace(host, "b.example.com")
				for range 3 {
					visits.Go(func() { w.get(host) })
					time.Sleep(500 * time.Millisecond)
				}
			}
			visits.Wait()
			if n := w.ca.CountHost(acmetest.NewOrder, host); n > most {
				t.Errorf("%d orders in 10 minutes, want %d at most", n, most)
			}
		})
	})
	table.Run(t, "H08/process that restarts", func(t *T) {
		bubbleCA(t, slow, func(t *T, w *world) {
			for range 120 {
				w.restart()
				w.m.HandshakeWait = -1
				w.get(host)
				time.Sleep(2500 * time.Millisecond)
				w.m.Close()
				time.Sleep(2500 * time.Millisecond)
			}
			if n := w.ca.CountHost(acmetest.NewOrder, host); n > most {
				t.Errorf("%d orders in 10 minutes, want %d at most", n, most)
			}
		})
	})
}

// slowWriter is one machine's access to a shared cache.
type slowWriter struct {
	certmgr.Cache
	d time.Duration // the duration of a write
}

func (c slowWriter) Put(ctx context.Context, key string, data []byte) error {
	time.Sleep(c.d)
	return c.Cache.Put(ctx, key, data)
}

// H17 (hostile review): two machines that start at the same time with one empty
// cache agree on an account, even if one changes its key at once.
func TestTwoMachinesAgreeOnAnAccount(t *testing.T) {
	for name, roll := range map[string]bool{"start": false, "start and key change": true} {
		table.Run(t, "H17/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				shared := w.cache
				w.cache = slowWriter{shared, 10 * time.Millisecond}
				machines := []*certmgr.Manager{w.manager("a.example.com"), nil}
				w.cache = slowWriter{shared, 100 * time.Millisecond}
				machines[1] = w.manager("b.example.com")
				var wg sync.WaitGroup
				for i, m := range machines {
					defer m.Close()
					name := []string{"a.example.com", "b.example.com"}[i]
					w.ca.Resolve(name, acmetest.Target{TLSConfig: m.TLSConfig()})
					wg.Go(func() {
						if err := m.Obtain(t.Context(), name); err != nil {
							t.Errorf("Obtain: %v", err)
						}
					})
				}
				if roll {
					wg.Go(func() { machines[0].RollAccountKey(t.Context()) })
				}
				wg.Wait()
				time.Sleep(time.Minute)
				for i, m := range machines {
					if err := m.Renew(t.Context(), []string{"a.example.com", "b.example.com"}[i]); err != nil {
						t.Errorf("Renew: %v", err)
					}
				}
				if n := len(w.ca.Accounts()); n != 1 {
					t.Errorf("%d accounts, want 1", n)
				}
			})
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// through sends the Manager's requests through a gateway, which answers instead
// of the CA unless it returns nil.
func through(w *world, gateway func(*http.Request) *http.Response) {
	w.m.Client = &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: &http.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
		if res := gateway(req); res != nil {
			res.Request = req
			return res, nil
		}
		return w.ca.Client().Transport.RoundTrip(req)
	})}}
}

// nowhere is a client whose CA does not answer.
func nowhere() *acme.Client {
	return &acme.Client{DirectoryURL: "https://ca.invalid/directory", HTTPClient: &http.Client{
		Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, errDown }),
	}}
}
