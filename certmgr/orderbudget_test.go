package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/net/publicsuffix"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// letsEncrypt makes the Manager's CA, which has Let's Encrypt's limits, look like
// Let's Encrypt.
func (w *world) letsEncrypt(directory string) {
	real := w.ca.Client().Transport
	w.m.Client = &acme.Client{
		DirectoryURL: directory,
		HTTPClient: &http.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.URL.String() == directory {
				here, err := url.Parse(w.ca.URL)
				if err != nil {
					return nil, err
				}
				req = req.Clone(req.Context())
				req.URL, req.Host = here, here.Host
			}
			return real.RoundTrip(req)
		})},
	}
}

// inLimitedBubble is inBubble with Let's Encrypt's limits.
func inLimitedBubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ca := acmetest.NewUnstartedServer()
		ca.RateLimits = acmetest.LetsEncryptRateLimits()
		ca.RateLimits.Requests = nil
		ca.RateLimits.RegisteredDomain = publicsuffix.EffectiveTLDPlusOne
		ca.StartMemory()
		w := &world{t: t, ca: ca, cache: &faultyCache{Cache: new(cache.Memory)}, events: new(recorder)}
		w.m = w.manager()
		w.reach()
		defer w.close()
		f(t, w)
	})
}

// strangers makes n handshakes for made-up names, a second apart.
func (w *world) strangers(from, n int) {
	for i := range n {
		w.get(fmt.Sprintf("www.made-up-%d.net", from+i))
		time.Sleep(time.Second)
	}
}

// placed returns how many orders the CA has made.
func (w *world) placed() int { return len(w.ca.Orders()) }

// Strangers get half of the orders, Start a third more, and visitors of listed
// hosts the rest.
func TestOrderBudgetHasShares(t *testing.T) {
	t.Parallel()
	inLimitedBubble(t, func(t *testing.T, w *world) {
		w.letsEncrypt(certmgr.DefaultACMEDirectory)
		var names []string
		for i := range 400 {
			names = append(names, fmt.Sprintf("www.listed-%d.net", i))
		}
		w.m.Hosts, w.m.HostPolicy, w.m.StartPace = certmgr.MustAllowlist(names...), certmgr.AllowAnyHost, -1
		w.strangers(0, 200)
		if n := w.placed(); n < 150 || n > 156 { // some come back meanwhile
			t.Errorf("strangers got %d orders, want 150", n)
		}
		err := w.wantErr("www.made-up-x.net", certmgr.ErrBackoff)
		if !strings.Contains(err.Error(), "orders in 3 hours are left (Manager.OrderBudget)") || !strings.Contains(err.Error(), "next attempt ") {
			t.Errorf("the error does not say why: %v", err)
		}
		before := w.placed()
		if err := w.m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		if n := w.placed() - before; n < 95 || n > 102 {
			t.Errorf("Start got %d orders, want 100", n)
		}
		before = w.placed()
		for _, name := range names { // Start has some of them
			if _, err = w.get(name); err != nil {
				break
			}
		}
		if n := w.placed() - before; !errors.Is(err, certmgr.ErrBackoff) || n < 45 || n > 55 {
			t.Errorf("visitors got %d orders, want 50, and then %v", n, err)
		}
		if snap, nums := w.m.Snapshot(), w.m.Metrics(); snap.OrdersLeft != 0 || nums.OrdersLeft != 0 {
			t.Errorf("the snapshot says %d, the metrics %d", snap.OrdersLeft, nums.OrdersLeft)
		}
		synctest.Wait()
		if down := w.events.of(audit.CAUnavailable); len(down) > 0 {
			t.Errorf("the CA refuses: %v", down[0])
		}
		if n := len(w.events.of(audit.OrdersRationed)); n != 3 {
			t.Errorf("%d events, want one for each share", n)
		}
	})
}

func TestOrderBudgetOfLetsEncrypt(t *testing.T) {
	for directory, want := range map[string]int{
		certmgr.DefaultACMEDirectory:            300,
		certmgr.LetsEncryptStagingURL:           300,
		"https://letsencrypt.example/directory": 0,
	} {
		inBubble(t, func(t *testing.T, w *world) {
			w.letsEncrypt(directory)
			if snap, nums := w.m.Snapshot(), w.m.Metrics(); snap.OrderBudget != want || snap.OrdersLeft != want || nums.OrderBudget != want {
				t.Errorf("%s: %d of %d orders, want %d", directory, snap.OrdersLeft, snap.OrderBudget, want)
			}
		})
	}
}

// An empty budget refuses without a failure, until the next order is due.
func TestEmptyOrderBudget(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.OrderBudget = 2 // one each 90 minutes
		w.mustGet("a.example.com")
		w.mustGet("b.example.com")
		full := w.wantErr("c.example.com", certmgr.ErrBackoff)
		if _, failed := errors.AsType[*certmgr.IssuanceError](full); failed {
			t.Errorf("it counts as a failure: %v", full)
		}
		if err := w.m.Obtain(t.Context(), "c.example.com"); !errors.Is(err, certmgr.ErrBackoff) || !strings.Contains(err.Error(), "OrderBudget") {
			t.Errorf("Obtain: %v", err)
		}
		for range 100 {
			w.wantErr("c.example.com", certmgr.ErrBackoff)
		}
		synctest.Wait()
		if n, m := len(w.events.of(audit.IssuanceFailed)), len(w.events.of(audit.OrdersRationed)); n != 0 || m != 1 {
			t.Errorf("%d failures, %d events", n, m)
		}
		time.Sleep(90*time.Minute - time.Second)
		w.wantErr("c.example.com", certmgr.ErrBackoff)
		time.Sleep(time.Second)
		w.mustGet("c.example.com")
		w.wantOrders("c.example.com", 1)
	})
}

// Renewals in the window that the CA suggests do not count, all others do.
func TestOrdersWithReplacesDoNotCount(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		w.m.OrderBudget = 10
		for _, h := range []string{"a.example.com", "b.example.com"} {
			w.mustGet(h)
		}
		if left := w.m.Snapshot().OrdersLeft; left != 8 {
			t.Errorf("%d orders left, want 8", left)
		}
		time.Sleep(day)
		if err := w.m.Renew(t.Context(), "a.example.com"); err != nil { // before its window
			t.Fatal(err)
		}
		if left := w.m.Snapshot().OrdersLeft; left != 9 {
			t.Errorf("%d orders left, want 9", left)
		}
		for range 80 * 24 {
			time.Sleep(time.Hour)
			if left := w.m.Snapshot().OrdersLeft; left != 10 {
				t.Errorf("%d orders left after a renewal, want 10", left)
				break
			}
		}
		if n := w.orders("b.example.com"); n != 2 {
			t.Errorf("%d orders, want a renewal", n)
		}
	})
}

// What was reserved and not placed is given back, and a refused order too.
func TestOrdersThatAreNotPlacedDoNotCount(t *testing.T) {
	for _, tt := range []struct {
		name     string
		endpoint acmetest.Endpoint
		status   int
		left     int
	}{
		{"no account", acmetest.NewAccount, http.StatusForbidden, 10},
		{"refused", acmetest.NewOrder, http.StatusForbidden, 10},
		{"perhaps placed", acmetest.NewOrder, http.StatusInternalServerError, 9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.OrderBudget = 10
				w.ca.Status(acmetest.Match{Endpoint: tt.endpoint}, tt.status, nil, acmetest.Problem{Type: "unauthorized"})
				if _, err := w.get("a.example.com"); err == nil {
					t.Fatal("issued")
				}
				if left := w.m.Snapshot().OrdersLeft; left != tt.left {
					t.Errorf("%d orders left, want %d", left, tt.left)
				}
			})
		})
	}
}

// An order that an attempt left unfinished is resumed without another one.
func TestOrderIsResumedWithoutABudget(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.OrderBudget, w.m.HandshakeWait = 1, -1
		w.slowValidation()
		w.get("a.example.com")
		time.Sleep(time.Second)
		if err := w.m.Close(); err != nil {
			t.Fatal(err)
		}
		w.m = w.manager()
		w.m.OrderBudget = 1
		w.reach()
		w.wantErr("b.example.com", certmgr.ErrBackoff)
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 1)
	})
}

// The budget outlives the process. It is written once a minute at most.
func TestOrderBudgetOutlivesARestart(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		var writes atomic.Int64
		w.cache.put(func(_ context.Context, key string) error {
			if strings.HasSuffix(key, "+orders") {
				writes.Add(1)
			}
			return nil
		})
		w.m.OrderBudget = 300
		for range 240 { // in 4 minutes
			if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := writes.Load(); n < 2 || n > 5 {
			t.Errorf("%d writes in 4 minutes", n)
		}
		left := w.m.Snapshot().OrdersLeft
		w.m.Close()
		w.m = w.manager()
		w.m.OrderBudget = 300
		w.reach()
		w.mustGet("b.example.com")
		if now := w.m.Snapshot().OrdersLeft; now != left-1 {
			t.Errorf("%d orders left after the restart, want %d", now, left-1)
		}
		time.Sleep(3 * time.Hour)
		if now := w.m.Snapshot().OrdersLeft; now != 300 {
			t.Errorf("%d orders left after 3 hours, want 300", now)
		}
	})
}

// An entry that cannot be read, or makes no sense, does not keep an order from being
// placed.
func TestOrderBudgetWhoseEntryIsWrong(t *testing.T) {
	for name, spoil := range map[string]func(w *world, key string){
		"damaged": func(w *world, key string) { w.cache.Cache.Put(w.t.Context(), key, []byte("{")) },
		"empty":   func(w *world, key string) { w.cache.Cache.Put(w.t.Context(), key, []byte{}) },
		"unreadable": func(w *world, key string) {
			w.cache.get(func(_ context.Context, k string) error {
				if k == key {
					return errors.New("no such column")
				}
				return nil
			})
		},
		"another CA's": func(w *world, key string) {
			w.cache.Cache.Put(w.t.Context(), key, []byte(`{"ca":"https://other.example","process":"x","used":300}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.OrderBudget = 10
				w.mustGet("a.example.com")
				w.m.Close()
				spoil(w, certmgr.OrderBudgetKey(w.m))
				w.m = w.manager()
				w.m.OrderBudget = 10
				w.reach()
				w.mustGet("b.example.com")
				if left := w.m.Snapshot().OrdersLeft; left != 9 {
					t.Errorf("%d orders left, want 9", left)
				}
				synctest.Wait()
				told := len(w.events.of(audit.CacheEntryRejected)) + len(w.events.of(audit.CacheReadFailed))
				if (told == 0) != (name == "another CA's") {
					t.Errorf("%d events", told)
				}
			})
		})
	}
}

// Without Let's Encrypt, or with a negative number, nothing is limited or stored.
func TestNoOrderBudget(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(w *world){
		"another CA": func(*world) {},
		"off":        func(w *world) { w.letsEncrypt(certmgr.DefaultACMEDirectory); w.m.OrderBudget = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				set(w)
				for range 310 {
					if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
						t.Fatal(err)
					}
				}
				if snap := w.m.Snapshot(); snap.OrderBudget != 0 || snap.OrdersLeft != 0 {
					t.Errorf("%d of %d orders left", snap.OrdersLeft, snap.OrderBudget)
				}
				synctest.Wait()
				if _, err := w.cache.Cache.Get(t.Context(), certmgr.OrderBudgetKey(w.m)); !errors.Is(err, certmgr.ErrCacheMiss) {
					t.Errorf("the Cache has an entry: %v", err)
				}
			})
		})
	}
}
