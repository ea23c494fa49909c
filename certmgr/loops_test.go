package certmgr_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/bundle"
)

// datedEntry returns a cache entry with a new certificate of some CA for host.
func datedEntry(host string, issuer pkix.Name, from, to time.Time) []byte {
	key := testKeys()[bundle.ECDSA]
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: issuer, IsCA: true, BasicConstraintsValid: true}
	leaf := &x509.Certificate{SerialNumber: serial, DNSNames: []string{host}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), newECDSAKey())
	if err != nil {
		panic(err)
	}
	return mustEncode(key, der)
}

// ever is a cache whose certificate of a.example.com is another one at each read.
type ever struct {
	certmgr.Cache
	next  func(n int) []byte
	reads atomic.Int32
}

func (c *ever) Get(ctx context.Context, key string) ([]byte, error) {
	if key != "a.example.com" {
		return c.Cache.Get(ctx, key)
	}
	n := int(c.reads.Add(1))
	if n > 5000 {
		<-ctx.Done() // ends a loop
		return nil, ctx.Err()
	}
	return c.next(n), nil
}

// However the dates of the certificates that a cache returns are, it is read a few
// times an hour. What is due is issued, although there is always another one.
func TestNoCacheMakesALoop(t *testing.T) {
	from, to := -80*day, 10*day // which is due
	for name, next := range map[string]func(now time.Time, n int) []byte{
		"another one each time": func(now time.Time, n int) []byte {
			return datedEntry("a.example.com", pkix.Name{}, now.Add(from), now.Add(to))
		},
		"the same age": func(now time.Time, n int) []byte {
			return datedEntry("a.example.com", pkix.Name{}, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(from), now.Add(to))
		},
		"a newer one each time": func(now time.Time, n int) []byte {
			return datedEntry("a.example.com", pkix.Name{}, now.Add(from).Add(time.Duration(n)*time.Second), now.Add(to))
		},
		"an older one each time": func(now time.Time, n int) []byte {
			return datedEntry("a.example.com", pkix.Name{}, now.Add(from).Add(-time.Duration(n)*time.Second), now.Add(to))
		},
		"in turn": func(now time.Time, n int) []byte {
			return datedEntry("a.example.com", pkix.Name{}, now.Add(from).Add(time.Duration(n%2)*time.Hour), now.Add(to))
		},
		"ends in a second": func(now time.Time, n int) []byte {
			return datedEntry("a.example.com", pkix.Name{}, now.Add(from), now.Add(time.Second))
		},
		"ends before it begins": func(now time.Time, n int) []byte {
			return datedEntry("a.example.com", pkix.Name{}, now.Add(day), now.Add(30*time.Minute))
		},
		"a newer one for tests": func(now time.Time, n int) []byte {
			return datedEntry("a.example.com", letsEncryptStaging, now.Add(time.Duration(n)*time.Second), now.Add(90*day))
		},
	} {
		for caName, prepare := range map[string]func(w *world){
			"CA works": func(w *world) {},
			"CA refuses": func(w *world) {
				w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "no"})
			},
			"CA is out of service": func(w *world) { w.ca.Drop(acmetest.Match{}) },
			"CA hangs":             func(w *world) { w.ca.Stall(acmetest.Match{}) },
		} {
			t.Run(name+", "+caName, func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					prepare(w)
					c := &ever{Cache: w.cache.Cache, next: func(n int) []byte { return next(time.Now(), n) }}
					w.m.Cache = c
					w.m.HandshakeWait = -1
					w.get("a.example.com")
					for range 60 {
						time.Sleep(time.Minute)
						w.get("a.example.com")
					}
					synctest.Wait()
					if n := c.reads.Load(); n > 6*60+60 {
						t.Errorf("%d reads in an hour with a visitor a minute", n)
					}
					if n := w.ca.Count(acmetest.NewOrder); caName == "CA works" && name != "ends before it begins" && n == 0 || n > 30 {
						t.Errorf("%d orders in an hour", n)
					}
					w.m.Close()
				})
			})
		}
	}
}

// A certificate for tests that cannot be replaced for long is looked at as often as
// any other that cannot be renewed, also while its end draws near, and after it.
func TestCertificateForTestsThatCannotBeReplacedMakesNoLoop(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		now := countedClock(t, w)
		w.keep("a.example.com", datedEntry("a.example.com", letsEncryptStaging, time.Now(), time.Now().Add(2*day)))
		w.ca.Drop(acmetest.Match{})
		w.get("a.example.com")
		for range 3 * 24 {
			now.calls.Store(0)
			time.Sleep(time.Hour)
		}
	})
}

// clock is a wall clock that a test sets, and that is not read in a loop.
type clock struct {
	read  atomic.Pointer[func() time.Time] // nil means time.Now
	calls atomic.Int64
}

// countedClock gives the Manager of w, which is not in use yet, a clock.
func countedClock(t *testing.T, w *world) *clock {
	c := new(clock)
	certmgr.SetClock(w.m, func() time.Time {
		if c.calls.Add(1) > 50_000 {
			panic(t.Name() + ": a loop reads the clock") // nothing else ends it
		}
		if read := c.read.Load(); read != nil {
			return (*read)()
		}
		return time.Now()
	})
	return c
}

// However the clock moves, nothing spins: neither renewals nor the prober nor what
// waits for its time.
func TestNoClockMakesALoop(t *testing.T) {
	t.Parallel()
	var still, turns atomic.Int64
	since := func() time.Duration { return time.Duration(time.Now().UnixNano() - still.Load()) } // it stands still
	clocks := map[string]func() time.Time{
		"stands still":            func() time.Time { return time.Unix(0, still.Load()) },
		"stands still, but jumps": func() time.Time { return time.Unix(0, still.Load()).Add(since().Truncate(time.Minute)) },
		"a day to and fro":        func() time.Time { return time.Now().Add(time.Duration(turns.Add(1)%2) * day) },
		"an hour to and fro":      func() time.Time { return time.Now().Add(time.Duration(turns.Add(1)%3) * time.Hour) },
		"runs backwards":          func() time.Time { return time.Unix(0, still.Load()).Add(-since()) },
		"a thousand times slower": func() time.Time { return time.Unix(0, still.Load()).Add(since() / 1000) },
	}
	states := map[string]func(w *world){
		"backing off": func(w *world) {
			w.ca.FailValidation("*", "", acmetest.Problem{Type: "unauthorized", Detail: "no"})
			w.get("a.example.com")
		},
		"CA out of service": func(w *world) {
			w.ca.Drop(acmetest.Match{})
			w.get("a.example.com")
		},
		"renewal fails": func(w *world) {
			w.mustGet("a.example.com")
			w.ca.FailValidation("*", "", acmetest.Problem{Type: "unauthorized", Detail: "no"})
			time.Sleep(61 * day)
		},
		"renewal is due soon": func(w *world) {
			w.mustGet("a.example.com")
			time.Sleep(time.Until(w.m.Snapshot().Hosts[0].RenewAt) - 1)
		},
		"cache fails": func(w *world) {
			w.cache.get(func(context.Context, string) error { return errors.New("disk") })
			w.m.Start(w.t.Context())
			synctest.Wait()
		},
	}
	for name, read := range clocks {
		for state, bring := range states {
			t.Run(name+", "+state, func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					c := countedClock(t, w)
					bring(w)
					synctest.Wait()
					still.Store(time.Now().UnixNano())
					c.calls.Store(0)
					c.read.Store(&read)
					orders, reads := w.ca.Count(acmetest.NewOrder), len(w.cache.reads())
					for range 60 {
						time.Sleep(time.Minute)
						w.get("a.example.com")
					}
					synctest.Wait()
					if n := w.ca.Count(acmetest.NewOrder) - orders; n > 60 {
						t.Errorf("%d orders in an hour", n)
					}
					if n := len(w.cache.reads()); n > 60*60 {
						t.Errorf("%d reads in an hour, %d before", n, reads)
					}
					w.cache.get(nil)
				})
			})
		}
	}
}
