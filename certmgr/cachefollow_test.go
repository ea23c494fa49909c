package certmgr_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

var errStoreDown = errors.New("connection refused")

// storeIsDown and storeHangs are faults of a faultyCache.
func storeIsDown(context.Context, string) error { return errStoreDown }

func storeHangs(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// layer has the Manager keep copies of its cache's entries.
func (w *world) layer(local cache.Cache) {
	w.m.Cache = cache.Layered(local, w.cache)
}

// serials returns what is served for hosts.
func (w *world) serials(hosts ...string) map[string]string {
	w.t.Helper()
	serials := make(map[string]string)
	for _, host := range hosts {
		serials[host] = serialOf(w.mustGet(host).Leaf)
	}
	return serials
}

// onAnotherMachine calls f with another Manager on the store, which works there.
func (w *world) onAnotherMachine(f func(m *certmgr.Manager)) {
	w.t.Helper()
	m := w.manager()
	m.Cache, m.Audit = w.cache.Cache, nil
	defer m.Close()
	w.ca.Resolve("*", acmetest.Target{TLSConfig: m.TLSConfig()})
	f(m)
	w.reach()
}

func TestAStartWhileTheStoreIsDown(t *testing.T) {
	for name, fault := range map[string]func(context.Context, string) error{"refuses": storeIsDown, "hangs": storeHangs} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				const newer, revoked, gone, same = "a.example.com", "b.example.com", "c.example.com", "d.example.com"
				local := new(cache.Memory)
				w.layer(local)
				before := w.serials(newer, revoked, gone, same)
				time.Sleep(time.Hour)

				w.cache.get(fault)
				w.cache.put(fault)
				w.restart()
				w.layer(local)
				orders := w.ca.Count(acmetest.NewOrder)
				if err := w.m.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				began := time.Now()
				if now := w.serials(newer, revoked, gone, same); !maps.Equal(now, before) {
					t.Errorf("%v is served, want the copies %v", now, before)
				}
				if d := time.Since(began); d != 0 {
					t.Errorf("the handshakes took %v", d)
				}
				time.Sleep(time.Hour)
				if n := w.ca.Count(acmetest.NewOrder) - orders; n != 0 {
					t.Errorf("%d orders while the store is down", n)
				}
				if events := w.events.of(audit.CacheReadFailed); !tells(events, "local copies") {
					t.Errorf("no event tells of the local copies: %v", events)
				}

				w.onAnotherMachine(func(m *certmgr.Manager) {
					if err := m.Renew(t.Context(), newer); err != nil {
						t.Fatal(err)
					}
					if err := m.Revoke(t.Context(), revoked, 4); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Minute) // it is issued again
				})
				if err := w.cache.Cache.Delete(t.Context(), gone); err != nil {
					t.Fatal(err)
				}
				orders = w.ca.Count(acmetest.NewOrder)
				w.cache.get(nil)
				w.cache.put(nil)
				time.Sleep(time.Minute)
				now := w.serials(newer, revoked, gone, same)
				for _, host := range []string{newer, revoked, gone} {
					if now[host] == before[host] {
						t.Errorf("the old certificate of %s is served", host)
					}
				}
				if now[same] != before[same] {
					t.Errorf("another certificate of %s is served", same)
				}
				if n := w.ca.Count(acmetest.NewOrder) - orders; n != 1 || w.orders(gone) != 2 {
					t.Errorf("%d orders, want one, for %s", n, gone)
				}
				withdrawn := w.events.of(audit.CertificateWithdrawn)
				if len(withdrawn) != 1 || withdrawn[0].Host != gone || withdrawn[0].Serial != before[gone] {
					t.Errorf("withdrawn: %v, want that of %s", withdrawn, gone)
				}
			})
		})
	}
}

func tells(events []audit.Event, reason string) bool {
	for _, e := range events {
		if strings.Contains(e.Reason, reason) {
			return true
		}
	}
	return false
}

// What is gone is refused at once, and is issued again without a visitor.
func TestWhatIsGoneLeavesServiceAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const host = "a.example.com"
		w.copyAndRestart(host)
		w.cache.get(storeIsDown)
		w.mustGet(host)
		if err := w.cache.Cache.Delete(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		stalled := w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		w.cache.get(nil)
		time.Sleep(15 * time.Second)
		w.wantErr(host, certmgr.ErrInFlight)
		stalled.Lift()
		time.Sleep(time.Minute)
		w.wantOrders(host, 2)
		w.mustGet(host)
	})
}

// copyAndRestart has a certificate issued, and restarts the Manager with a layered
// cache that has a copy of it.
func (w *world) copyAndRestart(host string) {
	w.t.Helper()
	local := new(cache.Memory)
	w.layer(local)
	w.mustGet(host)
	synctest.Wait()
	w.restart()
	w.layer(local)
}

// A certificate that was issued here, and is not stored yet, is no copy.
func TestWhatWasJustIssuedIsNotWithdrawn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const host = "a.example.com"
		w.copyAndRestart(host)
		w.cache.get(storeIsDown)
		w.cache.put(storeIsDown)
		copied := w.serials(host)
		time.Sleep(time.Hour)
		if err := w.m.Renew(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		issued := w.serials(host)
		if maps.Equal(copied, issued) {
			t.Fatal("nothing was issued")
		}
		if err := w.cache.Cache.Delete(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		w.cache.get(nil)
		time.Sleep(10 * time.Second)
		if now := w.serials(host); !maps.Equal(now, issued) {
			t.Errorf("%v is served, want %v", now, issued)
		}
		w.cache.put(nil)
		time.Sleep(time.Hour)
		if _, err := w.cache.Cache.Get(t.Context(), host); err != nil {
			t.Errorf("the store: %v", err)
		}
		w.wantOrders(host, 2)
	})
}

// The certificate of a group is served from a copy, and changed for all its hosts.
func TestTheCopyOfAGroup(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		group := []string{"a.example.com", "b.example.com"}
		local := new(cache.Memory)
		regroup := func(m *certmgr.Manager) {
			m.Hosts = certmgr.MustAllowlist()
			if err := m.Hosts.AddGroup(group...); err != nil {
				t.Fatal(err)
			}
		}
		regroup(w.m)
		w.layer(local)
		before := w.serials(group...)
		time.Sleep(time.Hour)
		w.cache.get(storeIsDown)
		w.restart()
		regroup(w.m)
		w.layer(local)
		if now := w.serials(group...); !maps.Equal(now, before) {
			t.Errorf("%v is served, want the copies %v", now, before)
		}
		w.onAnotherMachine(func(m *certmgr.Manager) {
			regroup(m)
			if err := m.Renew(t.Context(), group[0]); err != nil {
				t.Fatal(err)
			}
		})
		w.cache.get(nil)
		time.Sleep(time.Minute)
		now := w.serials(group...)
		for _, host := range group {
			if now[host] == before[host] || now[host] != now[group[0]] {
				t.Errorf("%v is served, before it was %v", now, before)
			}
		}
	})
}

// A Cache of the user's own may follow its store, badly.
type badFollower struct {
	certmgr.Cache
	follow func(ctx context.Context, yield func(cache.News) bool)
}

func (c badFollower) Follow(ctx context.Context) func(yield func(cache.News) bool) {
	return func(yield func(cache.News) bool) { c.follow(ctx, yield) }
}

func TestABadFollowerHarmsNobody(t *testing.T) {
	for name, follow := range map[string]func(ctx context.Context, yield func(cache.News) bool){
		"panics": func(context.Context, func(cache.News) bool) { panic("boom") },
		"ends":   func(context.Context, func(cache.News) bool) {},
		"lies": func(_ context.Context, yield func(cache.News) bool) {
			time.Sleep(time.Hour)
			yield(cache.News{Gone: []string{"a.example.com", "", "+", "acme_account+key"}, Changed: []string{"a.example.com", "x+group"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Cache = badFollower{w.m.Cache, follow}
				w.mustGet("a.example.com")
				w.restart()
				w.m.Cache = badFollower{w.m.Cache, follow}
				before := w.serials("a.example.com")
				time.Sleep(2 * time.Hour)
				if now := w.serials("a.example.com"); !maps.Equal(now, before) {
					t.Errorf("%v is served, want %v", now, before)
				}
			})
		})
	}
}

// Close leaves the copies as they should be.
func TestCloseWaitsForCopies(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		local := &faultyCache{Cache: new(cache.Memory)}
		local.put(func(context.Context, string) error { time.Sleep(time.Second); return nil })
		w.layer(local)
		leaf := w.mustGet("a.example.com").Leaf
		if err := w.m.Close(); err != nil {
			t.Error(err)
		}
		if _, err := local.Cache.Get(t.Context(), "a.example.com"); err != nil {
			t.Errorf("the copy of %s: %v", serialOf(leaf), err)
		}
	})
}

// withdrawn is the situation of a certificate that the store no longer has.
func withdrawn() situation {
	return situation{
		entry: "certificate_withdrawn",
		says:  []string{"local copy"},
		provoke: func(w *world) error {
			w.mustGet(visited)
			local := new(cache.Memory)
			data, err := w.cache.Cache.Get(w.t.Context(), visited)
			if err == nil {
				err = local.Put(w.t.Context(), visited, data)
			}
			if err == nil {
				err = w.cache.Cache.Delete(w.t.Context(), visited)
			}
			if err != nil {
				return err
			}
			w.restart()
			w.layer(local)
			w.cache.get(storeIsDown)
			w.mustGet(visited)
			w.cache.get(nil)
			time.Sleep(5 * time.Second)
			return nil
		},
		fix: wait(time.Minute),
	}
}
