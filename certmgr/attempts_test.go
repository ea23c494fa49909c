package certmgr_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

const maxAttempts = 5 // within an hour

// wantPaced checks that the CA got at most maxAttempts orders for host in each
// hour.
func (w *world) wantPaced(host string, hours int) {
	w.t.Helper()
	if n := w.orders(host); n == 0 || n > hours*maxAttempts {
		w.t.Errorf("%d orders for %s in %d h, want %d an hour at most", n, host, hours, maxAttempts)
	}
}

// slowValidation makes attempts last for a while.
func (w *world) slowValidation() {
	w.ca.Delay(acmetest.Match{Endpoint: acmetest.Challenge}, 5*time.Second)
}

// A list that flaps makes few orders, and each refusal is told once.
func TestFlappingListIsPaced(t *testing.T) {
	t.Parallel()
	flap := map[string]func(w *world, on bool){
		"Remove and Add": func(w *world, on bool) {
			if on {
				w.m.Hosts.Add("a.example.com")
			} else {
				w.m.Hosts.Remove("a.example.com")
			}
		},
		"Replace": func(w *world, on bool) {
			if on {
				w.m.Hosts.Replace("a.example.com", "b.example.com")
			} else {
				w.m.Hosts.Replace("b.example.com")
			}
		},
	}
	for name, set := range flap {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.slowValidation()
				var visits sync.WaitGroup
				for begin := time.Now(); time.Since(begin) < 110*time.Minute; {
					set(w, true)
					visits.Go(func() { w.get("a.example.com") })
					time.Sleep(time.Second)
					set(w, false)
					time.Sleep(time.Second)
				}
				set(w, true)
				visits.Wait()
				w.wantPaced("a.example.com", 2)
				failed := w.events.of(audit.IssuanceFailed)
				if n := len(failed); n == 0 || n > 2*maxAttempts {
					t.Errorf("%d events of refusals in 110 min", n)
				}
				err := w.wantErr("a.example.com", certmgr.ErrBackoff)
				issue, ok := errors.AsType[*certmgr.IssuanceError](err)
				if !ok || issue.RetryAt.Before(time.Now()) || issue.RetryAt.After(time.Now().Add(time.Hour)) ||
					!strings.Contains(err.Error(), "5 attempts within an hour") || !strings.Contains(issue.Hint(), `"a.example.com+failure"`) {
					t.Fatalf("the error does not say why and until when: %v", err)
				}
				orders := w.orders("a.example.com")
				for range 1000 {
					w.wantErr("a.example.com", certmgr.ErrBackoff)
				}
				time.Sleep(time.Until(issue.RetryAt))
				if got := len(w.events.of(audit.IssuanceFailed)); got != len(failed) || w.orders("a.example.com") != orders {
					t.Errorf("handshakes caused %d events and %d orders", got-len(failed), w.orders("a.example.com")-orders)
				}
				w.mustGet("a.example.com")
			})
		})
	}
}

// An operator is not paced, and a success starts anew.
func TestOperatorIsNotPaced(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.slowValidation()
		var visits sync.WaitGroup
		for range 2 * maxAttempts {
			visits.Go(func() { w.get("a.example.com") })
			time.Sleep(time.Second)
			w.m.Hosts.Replace("b.example.com")
			visits.Wait()
			synctest.Wait()
			w.m.Hosts.Replace("a.example.com", "b.example.com")
		}
		w.wantErr("a.example.com", certmgr.ErrBackoff)
		if err := w.m.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if data, err := w.cache.Cache.Get(t.Context(), "a.example.com+failure"); err == nil {
			t.Errorf("after a success the Cache has %s", data)
		}
		w.cache.Cache.Delete(t.Context(), "a.example.com")
		w.restart()
		w.mustGet("a.example.com")
	})
}

// What had come of attempts counts if it is forgotten with the host: nothing is
// stored without a Cache.
func TestForgottenOutcomesArePaced(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]bool{"certificates": false, "failures": true} {
		t.Run("list/"+name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Cache = nil
				if fail {
					w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized"})
				}
				for range 1800 {
					w.get("a.example.com")
					w.m.Hosts.Remove("a.example.com")
					time.Sleep(time.Second)
					w.m.Hosts.Add("a.example.com")
					time.Sleep(time.Second)
				}
				if fail { // the second challenge is tried with another order
					w.wantPaced("a.example.com", 2)
				} else {
					w.wantPaced("a.example.com", 1)
				}
			})
		})
	}
	t.Run("policy", func(t *testing.T) {
		var no atomic.Bool
		policyWorld(t, func(context.Context, string) error {
			if no.Load() {
				return errors.New("no")
			}
			return nil
		}, func(t *testing.T, w *world) {
			w.m.Cache = nil
			w.ca.FailValidation("x.example.com", "", acmetest.Problem{Type: "unauthorized"})
			for range 1800 {
				w.get("x.example.com")
				no.Store(!no.Load())
				time.Sleep(time.Second)
			}
			w.wantPaced("x.example.com", 2)
		})
	})
}

// crash starts a process for host at a killSite, which dies as soon as the CA has
// made an order, and before the process learns of it.
func (s *killSite) crash(host string) {
	p := &mortal{dead: make(chan struct{})}
	m := s.process(p, host)
	real := m.Client.HTTPClient.Transport
	m.Client.HTTPClient.Transport = roundTripper(func(req *http.Request) (*http.Response, error) {
		res, err := real.RoundTrip(req)
		if strings.HasSuffix(req.URL.Path, "/new-order") && err == nil {
			close(p.dead)
			return nil, errKilled
		}
		return res, err
	})
	go m.GetCertificate(hello(host))
	select {
	case <-p.dead:
	case <-time.After(5 * time.Second):
	}
	m.Close() // what it would still do has no effect
}

// A process that is killed each time the CA has made an order, and is restarted,
// leaves the CA alone soon.
func TestCrashLoopBeforeAnOrderIsKnownIsPaced(t *testing.T) {
	atKillSite(t, func(t *testing.T, s *killSite) {
		const host = "loop.example.com"
		s.ca.Delay(acmetest.Match{}, 50*time.Millisecond) // the Cache is as fast as a disk
		for range 720 {
			s.crash(host)
			time.Sleep(5 * time.Second)
		}
		if n := s.ca.CountHost(acmetest.NewOrder, host); n < maxAttempts || n > 2*maxAttempts {
			t.Errorf("%d orders in more than an hour", n)
		}
		time.Sleep(time.Hour)
		m := s.process(&mortal{dead: make(chan struct{})}, host)
		defer m.Close()
		if _, err := m.GetCertificate(hello(host)); err != nil {
			t.Error(err)
		}
	})
}

// An attempt that is interrupted only by Close counts too. Its order is resumed.
func TestRestartLoopIsPaced(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.slowValidation()
		for range 120 {
			w.m.HandshakeWait = -1
			w.get("a.example.com")
			time.Sleep(time.Second)
			w.restart()
		}
		if n := w.orders("a.example.com"); n != 1 {
			t.Errorf("%d orders", n)
		}
		if n := w.ca.CountHost(acmetest.Challenge, "a.example.com"); n > maxAttempts {
			t.Errorf("%d attempts in 2 minutes", n)
		}
		w.wantErr("a.example.com", certmgr.ErrBackoff)
		time.Sleep(time.Hour)
		w.mustGet("a.example.com")
	})
}

// An order that was finalized is fetched, however often that was interrupted:
// nothing is ordered for it.
func TestFinalizedOrderIsFetchedByEachProcess(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		fault := w.ca.Delay(acmetest.Match{Endpoint: acmetest.Certificate}, 5*time.Second)
		for range 4 * maxAttempts {
			w.m.HandshakeWait = -1
			w.get("a.example.com")
			time.Sleep(2 * time.Second)
			w.restart()
		}
		fault.Lift()
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 1)
	})
}

// A Cache that takes no records delays and prevents nothing, and attempts are
// counted in memory.
func TestAttemptsAreCountedWithoutRecords(t *testing.T) {
	t.Parallel()
	for _, hang := range []bool{false, true} {
		t.Run(fmt.Sprintf("hang %v", hang), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.cache.put(func(ctx context.Context, key string) error {
					if !strings.HasSuffix(key, "+failure") {
						return nil
					}
					if hang {
						<-ctx.Done()
					}
					return errors.New("no such column")
				})
				begin := time.Now()
				w.mustGet("a.example.com")
				if took := time.Since(begin); took >= time.Second {
					t.Errorf("it took %v", took)
				}
				w.slowValidation()
				for begin := time.Now(); time.Since(begin) < time.Hour; {
					w.m.Hosts.Add("b.example.com")
					go w.get("b.example.com")
					time.Sleep(time.Second)
					w.m.Hosts.Remove("b.example.com")
					time.Sleep(time.Second)
				}
				w.wantPaced("b.example.com", 1)
			})
		})
	}
}

// The record of attempts is read as carefully as any.
func TestRecordOfAttemptsThatIsWrong(t *testing.T) {
	far := time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)
	many := make([]time.Time, 1_000)
	for i := range many {
		many[i] = far.Add(time.Duration(i) * time.Second)
	}
	for name, tt := range map[string]struct {
		begun   any
		refused bool
	}{
		"of another time": {[]time.Time{time.Now().AddDate(-40, 0, 0)}, false},
		"from the future": {many, true},
		"no times":        {"yes", false},
		"empty":           {[]time.Time{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				record, err := json.Marshal(map[string]any{"host": "a.example.com", "ca": w.ca.URL, "attempts": 0,
					"time": time.Now(), "retryAt": time.Now(), "begun": tt.begun})
				if err != nil {
					t.Fatal(err)
				}
				w.cache.Cache.Put(t.Context(), "a.example.com+failure", record)
				if !tt.refused {
					w.mustGet("a.example.com")
					return
				}
				w.wantErr("a.example.com", certmgr.ErrBackoff)
				time.Sleep(time.Hour) // and no longer
				w.mustGet("a.example.com")
			})
		})
	}
}

// Certificates of both key types, for many hosts, are not attempts too many.
func TestSuccessesAreNotPaced(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		for range 3 * maxAttempts {
			for h, types := range map[string][][]tls.SignatureScheme{
				"a.example.com": {nil, {tls.PSSWithSHA256}},
				"b.example.com": {nil}, // one with RSA is enough: its keys take long
			} {
				for _, schemes := range types {
					if _, err := w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: h, SignatureSchemes: schemes}); err != nil {
						t.Fatal(err)
					}
				}
				for _, entry := range []string{h, h + "+rsa"} {
					w.cache.Cache.Delete(t.Context(), entry)
				}
			}
			time.Sleep(time.Minute)
			w.restart()
		}
	})
}
