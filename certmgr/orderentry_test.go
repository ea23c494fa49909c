package certmgr_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

const orderHost, orderKey = "a.example.com", "a.example.com+order"

// isOrderKey reports whether a key of the Cache is that of an order's entry.
func isOrderKey(key string) bool { return strings.HasSuffix(key, "+order") }

// entry returns the entry of an order as an object, or nil.
func (w *world) orderEntry(key string) map[string]any {
	w.t.Helper()
	data, err := w.cache.Cache.Get(w.t.Context(), key)
	if errors.Is(err, certmgr.ErrCacheMiss) {
		return nil
	}
	var entry map[string]any
	if err := json.Unmarshal(data, &entry); err != nil {
		w.t.Fatalf("%q: %v", data, err)
	}
	return entry
}

func (w *world) putOrderEntry(entry map[string]any) {
	w.t.Helper()
	data, err := json.Marshal(entry)
	if err == nil {
		err = w.cache.Cache.Put(w.t.Context(), orderKey, data)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// strand leaves the order of the host unfinished, after its certificate was
// issued, and closes the Manager.
func (w *world) strand() map[string]any {
	w.t.Helper()
	fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.Certificate}, 500, nil, acmetest.Problem{})
	if err := w.m.Obtain(w.t.Context(), orderHost); err == nil {
		w.t.Fatal("no error")
	}
	fault.Lift()
	w.m.Close()
	entry := w.orderEntry(orderKey)
	if entry == nil {
		w.t.Fatal("no entry")
	}
	return entry
}

// resume has the next process get a certificate.
func (w *world) resume() {
	w.t.Helper()
	w.restart()
	if err := w.m.Obtain(w.t.Context(), orderHost); err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(time.Second)
}

// The order of a process that has ended is resumed by the next one, for either
// key type, and its entry is deleted in the end.
func TestOrderOfAnotherProcessIsResumed(t *testing.T) {
	t.Parallel()
	certificate := acmetest.Match{Endpoint: acmetest.Certificate}
	faults := map[string]func(ca *acmetest.Server) (lift func()){
		"download fails": func(ca *acmetest.Server) func() { return ca.Status(certificate, 500, nil, acmetest.Problem{}).Lift },
		"processing":     func(ca *acmetest.Server) func() { return ca.StuckProcessing("*").Lift },
		"finalize fails": func(ca *acmetest.Server) func() {
			return ca.Status(acmetest.Match{Endpoint: acmetest.Finalize}, 500, nil, acmetest.Problem{}).Lift
		},
		"no verdict": func(ca *acmetest.Server) func() {
			return ca.Drop(acmetest.Match{Endpoint: acmetest.Authorization, After: 1}).Lift
		},
	}
	for name, fault := range faults {
		for _, rsa := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					get, key := func() error { _, err := w.get(orderHost); return err }, orderKey
					if rsa {
						get, key = func() error { _, err := w.m.GetCertificate(rsaHello(orderHost)); return err }, "a.example.com+rsa+order"
					}
					lift := fault(w.ca)
					w.m.HandshakeWait = 4 * time.Minute
					if get() == nil {
						t.Fatal("no error")
					}
					w.restart()
					lift()
					w.m.HandshakeWait = time.Minute
					entry := w.orderEntry(key)
					if entry == nil || entry["order"] != w.ca.Orders()[0].URL {
						t.Fatalf("the entry is %v", entry)
					}
					time.Sleep(15 * time.Minute)
					if err := get(); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					if left := w.orderEntry(key); left != nil {
						t.Errorf("it is left: %v", left)
					}
					if w.wantOrders(orderHost, 1); len(w.ca.Issued()) != 1 {
						t.Errorf("%d certificates", len(w.ca.Issued()))
					}
				})
			})
		}
	}
}

// What the entry holds.
func TestEntryOfAnOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var atOrder, atFinalize map[string]any
		w.ca.Edit(acmetest.Match{Endpoint: acmetest.Challenge}, func(*acmetest.Reply) { atOrder = w.orderEntry(orderKey) })
		w.ca.Edit(acmetest.Match{Endpoint: acmetest.Finalize}, func(*acmetest.Reply) { atFinalize = w.orderEntry(orderKey) })
		cert := w.mustGet(orderHost)
		placed := w.ca.Orders()[0]
		for when, entry := range map[string]map[string]any{"before the challenge": atOrder, "before the certificate was asked for": atFinalize} {
			for name, want := range map[string]any{
				"version":   1.0,
				"host":      orderHost,
				"keyType":   "ECDSA",
				"order":     placed.URL,
				"account":   placed.Account,
				"directory": w.ca.URL,
				"expires":   placed.Expires.UTC().Format(time.RFC3339),
			} {
				if entry[name] != want {
					t.Errorf("%s: %s is %v, want %v", when, name, entry[name], want)
				}
			}
			created, err := time.Parse(time.RFC3339, fmt.Sprint(entry["created"]))
			if err != nil || created.Sub(placed.Created).Abs() > time.Second {
				t.Errorf("%s: created is %v", when, entry["created"])
			}
		}
		if atOrder["key"] != nil {
			t.Error("there is a key before it is needed")
		}
		block, rest := pem.Decode([]byte(atFinalize["key"].(string)))
		if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
			t.Fatalf("the key is %v", block)
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil || !key.(*ecdsa.PrivateKey).Equal(cert.PrivateKey) {
			t.Errorf("the key is not that of the certificate: %v", err)
		}
		if strings.Contains(w.events.String(), "PRIVATE") {
			t.Error("an event has the key")
		}
	})
}

// A certificate that does not fit is not ordered again because of restarts.
func TestCertificateThatDoesNotFitIsOrderedOnceADayOverRestarts(t *testing.T) {
	for name, fault := range map[string]func(ca *acmetest.Server) func(){
		"other name": func(ca *acmetest.Server) func() { return ca.WrongName(orderHost).Lift },
		"other key":  func(ca *acmetest.Server) func() { return ca.WrongKey(orderHost).Lift },
	} {
		inBubble(t, func(t *testing.T, w *world) {
			fault(w.ca)
			for range 47 {
				w.get(orderHost)
				time.Sleep(time.Hour)
				w.restart()
			}
			if n := w.orders(orderHost); n > 2 {
				t.Errorf("%s: %d orders in two days", name, n)
			}
		})
	}
}

// So much time counts over restarts too.
func TestOrderThatIsMissingIsGivenUpOverRestarts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.strand()
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.Order}, http.StatusNotFound, nil, acmetest.Problem{})
		for range 7 {
			w.restart()
			w.m.Obtain(t.Context(), orderHost)
			time.Sleep(11 * time.Minute)
		}
		fault.Lift()
		if n := w.orders(orderHost); n != 2 {
			t.Errorf("%d orders", n)
		}
	})
}

// What an entry says is checked. A damaged one costs no more than an order.
func TestDamagedEntryOfAnOrderCostsOneOrder(t *testing.T) {
	t.Parallel()
	other := func(key string, value any) func(e map[string]any) {
		return func(e map[string]any) { e[key] = value }
	}
	rsaKey := func(e map[string]any) {
		key, err := bundle.GenerateKey(bundle.RSA2048)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		e["key"] = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	for name, damage := range map[string]func(e map[string]any){
		"no version":       func(e map[string]any) { delete(e, "version") },
		"version 0":        other("version", 0),
		"negative version": other("version", -1),
		"text as version":  other("version", "1"),
		"another host":     other("host", "b.example.com"),
		"another type":     other("keyType", "RSA"),
		"another server":   other("order", "https://evil.example/order/1"),
		"no TLS":           func(e map[string]any) { e["order"] = strings.Replace(e["order"].(string), "https:", "http:", 1) },
		"no URL":           other("order", ""),
		"not created":      func(e map[string]any) { delete(e, "created") },
		"odd date":         other("created", "yesterday"),
		"key is text":      other("key", "-----BEGIN PRIVATE KEY-----"),
		"key is cut":       func(e map[string]any) { e["key"] = e["key"].(string)[:100] },
		"RSA key":          rsaKey,
		"two keys":         func(e map[string]any) { e["key"] = e["key"].(string) + e["key"].(string) },
		"too large":        other("more", strings.Repeat("x", 70_000)),
		"unknown order":    func(e map[string]any) { e["order"], e["key"] = e["order"].(string)+"0", "" },
		"another account":  other("account", "https://ca.example/account/2"),
		"another CA":       other("directory", "https://ca.example/directory"),
		"long ago":         func(e map[string]any) { e["created"], e["expires"] = "1999-01-01T00:00:00Z", "1999-01-08T00:00:00Z" },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				entry := w.strand()
				damage(entry)
				w.putOrderEntry(entry)
				w.resume()
				w.wantOrders(orderHost, 2)
				silent := slices.Contains([]string{"another account", "another CA", "long ago", "unknown order"}, name)
				if n := len(w.events.of(audit.CacheEntryRejected)); (n == 0) != silent {
					t.Errorf("%d events", n)
				}
				if w.orderEntry(orderKey) != nil {
					t.Error("it is left")
				}
			})
		})
	}
	for name, data := range map[string][]byte{"empty": {}, "garbage": []byte("{\x00"), "null": []byte("null"), "list": []byte("[1]")} {
		inBubble(t, func(t *testing.T, w *world) {
			w.cache.Cache.Put(t.Context(), orderKey, data)
			w.mustGet(orderHost)
			if w.wantOrders(orderHost, 1); len(w.events.of(audit.CacheEntryRejected)) != 1 {
				t.Errorf("%s: no event", name)
			}
		})
	}
}

// A program that is newer knows what its entry means: it stays.
func TestEntryOfANewerVersionIsLeftAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		entry := w.strand()
		entry["version"], entry["key"] = 2, map[string]any{"algorithm": "ML-DSA"}
		w.putOrderEntry(entry)
		before, _ := w.cache.Cache.Get(t.Context(), orderKey)
		w.resume()
		w.wantOrders(orderHost, 2)
		w.m.Hosts.Remove(orderHost)
		synctest.Wait()
		if after, err := w.cache.Cache.Get(t.Context(), orderKey); string(after) != string(before) {
			t.Errorf("it is now %q, %v", after, err)
		}
		if events := w.events.of(audit.CacheEntryRejected); len(events) != 1 || !strings.Contains(events[0].Err.Error(), "newer") {
			t.Errorf("events %v", events)
		}
	})
}

// The order in another process's clock, which is ahead, ends all the same.
func TestOrderOfAClockThatIsAheadIsResumed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		entry := w.strand()
		entry["created"] = time.Now().Add(1000 * day).UTC().Format(time.RFC3339)
		w.putOrderEntry(entry)
		w.resume()
		w.wantOrders(orderHost, 1)
	})
}

// Neither what can be served nor what can be issued depends on the entry.
func TestIssuanceNeedsNoEntryOfItsOrder(t *testing.T) {
	broken := errors.New("disk on fire")
	fails := func(_ context.Context, key string) error {
		if isOrderKey(key) {
			return broken
		}
		return nil
	}
	t.Run("reads", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.cache.get(fails)
			w.mustGet(orderHost)
			events := w.events.of(audit.CacheReadFailed)
			if len(events) != 1 || !errors.Is(events[0].Err, broken) || events[0].Host != orderHost || !strings.Contains(events[0].Err.Error(), "without this entry") {
				t.Errorf("events %v", events)
			}
		})
	})
	t.Run("writes", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.cache.put(fails)
			w.mustGet(orderHost)
			if events := w.events.of(audit.CacheWriteFailed); len(events) != 1 || !errors.Is(events[0].Err, broken) || events[0].Host != orderHost {
				t.Errorf("events %v", events)
			}
		})
	})
	t.Run("calls hang", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			hang := func(_ context.Context, key string) error {
				if isOrderKey(key) {
					w.cache.hang()
				}
				return nil
			}
			w.cache.get(hang)
			w.cache.put(hang)
			begun := time.Now()
			w.m.HandshakeWait = time.Minute
			w.mustGet(orderHost)
			if took := time.Since(begun); took > 2*cacheTimeout {
				t.Errorf("it took %v", took)
			}
			w.cache.get(nil)
			w.cache.put(nil)
			w.cache.release()
		})
	})
	t.Run("in memory", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.cache.get(fails)
			w.cache.put(fails)
			fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.Certificate}, 500, nil, acmetest.Problem{})
			w.m.Obtain(t.Context(), orderHost)
			fault.Lift()
			if err := w.m.Obtain(t.Context(), orderHost); err != nil {
				t.Error(err)
			}
			w.wantOrders(orderHost, 1)
		})
	})
}

// Handshakes with a certificate in the Cache do not read the entry of an order. Only
// that of a new certificate is looked for once it was loaded.
func TestEntryOfAnOrderIsReadForIssuancesAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet(orderHost)
		time.Sleep(3 * day)
		w.restart()
		synctest.Wait() // what follows an issuance or a load in the background
		w.cache.reads()
		w.mustGet(orderHost)
		if reads := w.cache.reads(); slices.ContainsFunc(reads, isOrderKey) {
			t.Errorf("read %q", reads)
		}
	})
}
