package certmgr_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// The entry of an order stays until its certificate is in the Cache.
func TestEntryOfAnOrderStaysUntilTheCertificateIsStored(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.put(func(_ context.Context, key string) error {
			if key == orderHost {
				return errors.New("disk full")
			}
			return nil
		})
		w.mustGet(orderHost)
		time.Sleep(time.Minute)
		if w.orderEntry(orderKey) == nil {
			t.Fatal("it was deleted before")
		}
		w.restart() // the certificate was in memory alone
		w.mustGet(orderHost)
		w.wantOrders(orderHost, 1)
		w.cache.put(nil)
		time.Sleep(20 * time.Minute)
		if w.orderEntry(orderKey) != nil || len(w.events.of(audit.CacheWriteRecovered)) == 0 {
			t.Error("it was not deleted afterwards")
		}
	})
	t.Run("closed meanwhile", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			m := w.m
			w.ca.Edit(acmetest.Match{Endpoint: acmetest.Certificate, Count: 1}, func(*acmetest.Reply) { go m.Close() })
			w.get(orderHost)
			w.restart()
			w.mustGet(orderHost)
			w.wantOrders(orderHost, 1)
		})
	})
}

// Whatever ends the need for an order, deletes its entry.
func TestEntryOfAnOrderIsDeleted(t *testing.T) {
	invalid := acmetest.Problem{Type: "caa", Detail: "no"}
	for name, end := range map[string]func(w *world){
		"the CA calls it invalid": func(w *world) {
			w.restart()
			w.ca.Edit(acmetest.Match{Endpoint: acmetest.Order, Count: 1}, func(r *acmetest.Reply) {
				r.EditObject(func(o map[string]any) { o["status"] = acme.StatusInvalid })
			})
			w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 403, nil, invalid)
			w.m.Obtain(w.t.Context(), orderHost)
		},
		"removed": func(w *world) {
			w.restart()
			w.m.Snapshot()
			w.m.Hosts.Remove(orderHost)
		},
		"removed during an attempt": func(w *world) {
			w.restart()
			w.ca.Stall(acmetest.Match{Endpoint: acmetest.Certificate})
			go w.m.Obtain(w.t.Context(), orderHost)
			time.Sleep(time.Second)
			w.m.Hosts.Remove(orderHost)
		},
		"removed after a failure": func(w *world) {
			w.restart()
			w.ca.Status(acmetest.Match{Endpoint: acmetest.Certificate}, 500, nil, acmetest.Problem{})
			w.m.Obtain(w.t.Context(), orderHost)
			w.m.Hosts.Remove(orderHost)
		},
		"expired, and no order instead": func(w *world) {
			time.Sleep(8 * day)
			w.restart()
			w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 403, nil, invalid)
			w.m.Obtain(w.t.Context(), orderHost)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.strand()
				end(w)
				time.Sleep(time.Minute)
				if e := w.orderEntry(orderKey); e != nil {
					t.Errorf("it is %v", e)
				}
				for what := range certmgr.Kept(w.m) {
					if strings.Contains(what, "order") {
						t.Errorf("%s is in memory", what)
					}
				}
			})
		})
	}
}

func TestRevokeForgetsAnUnfinishedRenewal(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet(orderHost)
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.Certificate}, 500, nil, acmetest.Problem{})
		w.m.Renew(t.Context(), orderHost)
		fault.Lift()
		if w.orderEntry(orderKey) == nil {
			t.Fatal("no entry")
		}
		w.mustRevoke(orderHost, acme.CRLReasonKeyCompromise)
		time.Sleep(time.Minute)
		w.mustGet(orderHost)
		w.wantOrders(orderHost, 3)
		if w.orderEntry(orderKey) != nil {
			t.Error("the entry is left")
		}
	})
}

// A process that was killed when the certificate was in the Cache leaves an entry.
// It goes when the certificate is loaded, unless it is of another order.
func TestLeftoverEntryGoesWhenTheCertificateIsLoaded(t *testing.T) {
	for name, c := range map[string]struct {
		age   time.Duration
		other bool
		want  bool
	}{
		"leftover":        {0, false, false},
		"old certificate": {3 * day, false, true}, // not looked for
		"another order":   {0, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				entry := make(map[string]any)
				w.ca.Edit(acmetest.Match{Endpoint: acmetest.Certificate, Count: 1}, func(*acmetest.Reply) { entry = w.orderEntry(orderKey) })
				w.mustGet(orderHost)
				synctest.Wait()
				if c.other {
					delete(entry, "key")
				}
				w.putOrderEntry(entry)
				time.Sleep(c.age)
				w.restart()
				w.mustGet(orderHost)
				synctest.Wait()
				if there := w.orderEntry(orderKey) != nil; there != c.want {
					t.Errorf("the entry is there: %v, want %v", there, c.want)
				}
			})
		})
	}
}

// A leftover says nothing of the next order, unless keys are kept.
func TestLeftoverEntryOfAnOrder(t *testing.T) {
	for _, keep := range []bool{false, true} {
		inBubble(t, func(t *testing.T, w *world) {
			w.m.KeepKey = keep
			entry := make(map[string]any)
			w.ca.Edit(acmetest.Match{Endpoint: acmetest.Certificate, Count: 1}, func(*acmetest.Reply) { entry = w.orderEntry(orderKey) })
			first := w.mustGet(orderHost)
			synctest.Wait()
			w.putOrderEntry(entry)
			if err := w.m.Renew(t.Context(), orderHost); err != nil {
				t.Fatal(err)
			}
			w.wantOrders(orderHost, 2)
			if second := w.mustGet(orderHost); keysEqual(first, second) != keep || first.Leaf.Equal(second.Leaf) {
				t.Error("the leftover order was resumed")
			}

			// A renewal that is unfinished is none.
			fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.Certificate}, 500, nil, acmetest.Problem{})
			w.m.Renew(t.Context(), orderHost)
			fault.Lift()
			w.restart()
			w.m.KeepKey = keep
			second := w.mustGet(orderHost)
			if err := w.m.Renew(t.Context(), orderHost); err != nil {
				t.Fatal(err)
			}
			w.wantOrders(orderHost, 3)
			if third := w.mustGet(orderHost); keysEqual(second, third) != keep || second.Leaf.Equal(third.Leaf) {
				t.Errorf("KeepKey %v: nothing was renewed", keep)
			}
			time.Sleep(time.Second)
			if w.orderEntry(orderKey) != nil {
				t.Error("the entry is left")
			}
		})
	}
}

// Strangers leave no entries for names that they control nothing of.
func TestStrangersLeaveNoEntriesOfOrders(t *testing.T) {
	policyWorld(t, certmgr.AllowAnyHost, func(t *testing.T, w *world) {
		fault := w.ca.Drop(acmetest.Match{Endpoint: acmetest.Authorization, After: 1})
		w.get("stranger.example.com")
		time.Sleep(5 * time.Minute)
		if e := w.orderEntry("stranger.example.com+order"); e != nil {
			t.Errorf("the entry is %v", e)
		}
		fault.Lift()
		w.ca.Status(acmetest.Match{Endpoint: acmetest.Certificate}, 500, nil, acmetest.Problem{})
		w.get("stranger.example.com")
		time.Sleep(time.Minute)
		if w.orderEntry("stranger.example.com+order") == nil {
			t.Error("there is no entry of an order that was finalized")
		}
		w.wantOrders("stranger.example.com", 1)
	})
}

// A process that resumes the order of another one, which is at it still, makes no
// second certificate of it.
func TestTwoProcessesWithOneOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.Delay(acmetest.Match{Endpoint: acmetest.Challenge, Count: 1}, 3*time.Second)
		w.ca.Delay(acmetest.Match{Endpoint: acmetest.Certificate, Count: 1}, 5*time.Second)
		other := w.manager()
		defer other.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := w.get(orderHost); err != nil {
				t.Errorf("the first: %v", err)
			}
		})
		time.Sleep(time.Second)
		wg.Go(func() {
			if _, err := other.GetCertificate(hello(orderHost)); err != nil {
				t.Errorf("the second: %v", err)
			}
		})
		wg.Wait()
		w.wantOrders(orderHost, 1)
		if n := len(w.ca.Issued()); n != 1 {
			t.Errorf("%d certificates", n)
		}
		time.Sleep(time.Second)
		if w.orderEntry(orderKey) != nil {
			t.Error("the entry is left")
		}
	})
}

// While the CA works on an order, the host comes back when the CA says, and not a
// day later.
func TestOrderInProgressIsResumedWhenTheCASays(t *testing.T) {
	for _, c := range []struct {
		retryAfter  string
		least, most time.Duration // until there is a certificate
	}{
		{"15", 25 * time.Second, 40 * time.Second},
		{"60", time.Minute, 61 * time.Second},
		{"1800", 30 * time.Minute, 31 * time.Minute},
		{"86400", 54 * time.Second, 67 * time.Second}, // the first Backoff
	} {
		inBubble(t, func(t *testing.T, w *world) {
			var finalized time.Time
			w.ca.Edit(acmetest.Match{Endpoint: acmetest.Finalize}, func(*acmetest.Reply) { finalized = time.Now() })
			working := func(r *acmetest.Reply) {
				if time.Since(finalized) < 20*time.Second {
					r.Header.Set("Retry-After", c.retryAfter)
					r.EditObject(func(o map[string]any) {
						o["status"] = acme.StatusProcessing
						delete(o, "certificate")
					})
				}
			}
			w.ca.Edit(acmetest.Match{Endpoint: acmetest.Finalize}, working)
			w.ca.Edit(acmetest.Match{Endpoint: acmetest.Order}, working)
			_, err := w.get(orderHost)
			if refused, ok := errors.AsType[*certmgr.IssuanceError](err); !ok || refused.Attempts != 1 {
				t.Fatalf("Retry-After %s: %v", c.retryAfter, err)
			}
			for err != nil && time.Since(finalized) < 2*time.Hour {
				time.Sleep(100 * time.Millisecond)
				_, err = w.get(orderHost)
			}
			if took := time.Since(finalized); err != nil || took < c.least || took > c.most {
				t.Errorf("Retry-After %s: it took %v: %v", c.retryAfter, took, err)
			}
			w.wantOrders(orderHost, 1)
		})
	}
}

// A CA that is never done is asked less and less often.
func TestOrderThatIsAlwaysInProgressBacksOff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.StuckProcessing("*")
		w.ca.RetryAfter(acmetest.Order, "15")
		w.ca.RetryAfter(acmetest.Finalize, "15")
		for range 24 * 60 * 4 {
			w.get(orderHost)
			time.Sleep(15 * time.Second)
		}
		if n := w.ca.Count(acmetest.Order); n > 80 {
			t.Errorf("asked %d times in a day", n)
		}
		w.wantOrders(orderHost, 1)
	})
}
