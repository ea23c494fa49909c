package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/pace"
)

// newHosts returns so many names below a registered domain.
func newHosts(domain string, n int) (hosts []string) {
	for i := range n {
		hosts = append(hosts, fmt.Sprintf("h%03d.%s", i, domain))
	}
	return hosts
}

// A list of new hosts is processed within half of Let's Encrypt's limits, and
// no handshake waits for that.
func TestStartIsPaced(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		hosts := newHosts("big.example", 60)
		for i := range 8 {
			hosts = append(hosts, newHosts(fmt.Sprintf("d%d.example", i), 20)...)
		}
		w.m.Hosts = certmgr.MustAllowlist(hosts...)
		begin := time.Now()
		if err := w.m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if n := w.ca.Count(acmetest.NewOrder); n < pace.OrderBurst || n > pace.OrderBurst+10 {
			t.Errorf("%d orders in 10 minutes, want %d at once and few more", n, pace.OrderBurst)
		}
		w.mustGet("h059.big.example") // a visitor has it at once
		time.Sleep(14 * day)

		orders := w.ca.Orders()
		if len(orders) != len(hosts) {
			t.Errorf("%d orders for %d hosts", len(orders), len(hosts))
		}
		wantAtMost(t, orders, 150+150, 3*time.Hour, func(acmetest.PlacedOrder) bool { return true })
		wantAtMost(t, orders, 50, 7*day, func(o acmetest.PlacedOrder) bool { return strings.HasSuffix(o.Hosts[0], ".big.example") })
		if last := orders[len(orders)-1].Created.Sub(begin); last < 8*day {
			t.Errorf("all were ordered within %v", last)
		}
		progress := w.events.of(audit.StartProgress)
		if last := progress[len(progress)-1]; last.Count != len(hosts) || last.Total != len(hosts) {
			t.Errorf("the last event of progress is %v", last)
		}
		for i, e := range progress[1:] {
			if e.Count < progress[i].Count {
				t.Errorf("progress goes back: %v", e)
			}
		}
	})
}

// wantAtMost checks that no window of the given length has more orders of a kind.
func wantAtMost(t *testing.T, orders []acmetest.PlacedOrder, most int, window time.Duration, of func(acmetest.PlacedOrder) bool) {
	t.Helper()
	var times []time.Time
	for _, o := range orders {
		if of(o) {
			times = append(times, o.Created)
		}
	}
	for i := most; i < len(times); i++ {
		if d := times[i].Sub(times[i-most]); d < window {
			t.Fatalf("%d orders within %v, want at most %d within %v", most+1, d, most, window)
		}
	}
}

func TestNegativeStartPaceIssuesAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		hosts := newHosts("big.example", 200)
		w.m.Hosts = certmgr.MustAllowlist(hosts...)
		w.m.StartPace = -1
		w.m.Start(t.Context())
		time.Sleep(time.Minute)
		if n := len(w.ca.Issued()); n != len(hosts) {
			t.Errorf("%d of %d certificates after a minute", n, len(hosts))
		}
	})
}

// A host that fails is tried again by its backoff and keeps no other from
// its turn.
func TestStartGoesOnAfterFailures(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		hosts := newHosts("big.example", 30)
		w.m.Hosts = certmgr.MustAllowlist(hosts...)
		for _, host := range hosts[:10] {
			w.ca.FailValidation(host, "", acmetest.Problem{Type: "dns", Detail: "no such host"})
		}
		w.m.Start(t.Context())
		time.Sleep(2 * day)
		if n := len(w.ca.Issued()); n != 20 {
			t.Errorf("%d certificates, want those of all 20 hosts that work", n)
		}
		// The last turn comes after 34 hours: hosts have it in no order.
		if n := w.orders(hosts[0]); n < 14 || n > 35 {
			t.Errorf("%d orders in 2 days for a host that fails, want those of its backoff", n)
		}
		progress := w.events.of(audit.StartProgress)
		if last := progress[len(progress)-1]; last.Count != 20 || last.Total != 30 {
			t.Errorf("the last event of progress is %v", last)
		}
		for _, host := range hosts[:10] {
			w.m.Hosts.Remove(host)
		}
		synctest.Wait()
		w.m.Start(t.Context())
		progress = w.events.of(audit.StartProgress)
		if last := progress[len(progress)-1]; last.Count != 20 || last.Total != 20 {
			t.Errorf("the last event of progress is %v", last)
		}
	})
}

func TestStartEndsWithItsContextWhilePaced(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts = certmgr.MustAllowlist(newHosts("big.example", 60)...)
		ctx, cancel := context.WithCancel(t.Context())
		w.m.Start(ctx)
		time.Sleep(time.Hour)
		cancel()
		synctest.Wait()
		orders := w.ca.Count(acmetest.NewOrder)
		time.Sleep(7 * day)
		if n := w.ca.Count(acmetest.NewOrder); n != orders || orders < pace.DomainBurst {
			t.Errorf("%d orders before the context ended and %d after", orders, n-orders)
		}
	})
}

func TestStartLoadsAndIssues(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.restart()
		fault := w.ca.FailValidation("d.example.com", "", acmetest.Problem{Type: "dns", Detail: "no such host"})
		start := time.Now()
		if err := w.m.Start(t.Context()); err != nil || time.Since(start) != 0 {
			t.Fatalf("Start: %v after %v", err, time.Since(start))
		}
		time.Sleep(10 * time.Second)
		requests := w.ca.Count(acmetest.Any)
		for _, host := range []string{"a.example.com", "b.example.com", "c.example.com"} {
			w.mustGet(host)
		}
		if n := w.ca.Count(acmetest.Any) - requests; n != 0 {
			t.Errorf("%d CA requests after Start", n)
		}
		w.wantOrders("a.example.com", 1)
		fault.Lift()
		time.Sleep(2 * time.Minute)
		w.wantOrders("d.example.com", 2) // tried again without a visitor
		w.mustGet("d.example.com")
		w.m.Close()
		if err := w.m.Start(t.Context()); !errors.Is(err, certmgr.ErrClosed) {
			t.Errorf("Start after Close: %v", err)
		}
	})
}

func TestStartEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		w.cache.get(func(ctx context.Context, key string) error { <-ctx.Done(); return ctx.Err() })
		w.m.Start(ctx)
		cancel()
		synctest.Wait()
		time.Sleep(time.Minute)
		if n := w.ca.Count(acmetest.Any); n != 0 {
			t.Errorf("%d CA requests after the end of Start's context", n)
		}
	})
}

// Start without a context panics in the caller, and not in a goroutine of its own.
func TestStartWithNilContextPanicsInTheCaller(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		defer func() {
			if recover() == nil {
				t.Error("no panic in the caller")
			}
		}()
		var none context.Context
		w.m.Start(none)
	})
}

// Start loads what is in the cache before it issues: 64 hosts that stall do not keep
// a certificate from being loaded.
func TestStartLoadsBeforeItIssues(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts.Add("zz.example.com")
		w.mustGet("zz.example.com")
		w.restart()
		for i := range 64 {
			w.m.Hosts.Add(fmt.Sprintf("aa%02d.example.com", i))
		}
		w.m.Hosts.Add("zz.example.com")
		w.m.Hosts.Remove("a.example.com", "b.example.com", "c.example.com", "d.example.com")
		w.ca.StuckProcessing("*.example.com")
		start := time.Now()
		w.m.Start(t.Context())
		for len(w.events.of(audit.CertificateLoaded)) == 0 && time.Since(start) < time.Hour {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("zz, which is in the cache, was loaded after %v", d)
		}
	})
}

// The end of the first Start's context does not end what the second began.
func TestSecondStartSurvivesTheFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		down := w.ca.Drop(acmetest.Match{})
		first, cancel := context.WithCancel(t.Context())
		w.m.Start(first)
		time.Sleep(time.Minute)
		w.m.Hosts.Add("e.example.com")
		w.m.Start(t.Context())
		time.Sleep(time.Minute)
		cancel()
		time.Sleep(time.Minute)
		down.Lift()
		time.Sleep(2 * day)
		if n := len(w.ca.Issued()); n != 5 {
			t.Errorf("%d of 5 hosts have a certificate", n)
		}
	})
}

// What Start began is not tried again after its context ended.
func TestStartThatEndedDoesNotTryAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.StuckProcessing("*.example.com")
		ctx, cancel := context.WithCancel(t.Context())
		w.m.Start(ctx)
		time.Sleep(30 * time.Second) // it is under way
		cancel()
		time.Sleep(10 * time.Minute) // it has ended
		orders := w.ca.Count(acmetest.NewOrder)
		time.Sleep(7 * day)
		if n := w.ca.Count(acmetest.NewOrder) - orders; n > 0 {
			t.Errorf("%d orders after the end of Start", n)
		}
	})
}

// Nor are hosts whose cache entry could not be read.
func TestStartThatEndedForgetsHostsWithCacheTrouble(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.get(func(context.Context, string) error { return errors.New("disk on fire") })
		ctx, cancel := context.WithCancel(t.Context())
		w.m.Start(ctx)
		time.Sleep(30 * time.Second)
		cancel()
		synctest.Wait()
		w.cache.get(nil)
		time.Sleep(7 * day)
		if n := w.ca.Count(acmetest.NewOrder); n > 0 {
			t.Errorf("%d orders after the end of Start", n)
		}
	})
}

// A host that fails and is taken off the list does not keep Start from its end.
func TestStartEndsWhenAFailingHostIsRemoved(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("d.example.com", "", acmetest.Problem{Type: "dns", Detail: "no such host"})
		w.m.Start(t.Context())
		time.Sleep(10 * day)
		w.m.Hosts.Remove("d.example.com")
		time.Sleep(10 * day)
		progress := w.events.of(audit.StartProgress)
		if last := progress[len(progress)-1]; last.Count != last.Total {
			t.Errorf("the last event of progress is %v", last)
		}
	})
}

// A Start that ended gives its places in the lanes back.
func TestEndedStartsDoNotPushOthersBack(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		hosts := newHosts("big.example", 60)
		w.m.Hosts = certmgr.MustAllowlist(hosts...)
		for range 5 { // a reload each minute
			ctx, cancel := context.WithCancel(t.Context())
			w.m.Start(ctx)
			time.Sleep(time.Minute)
			cancel()
			synctest.Wait()
		}
		w.m.Start(t.Context())
		time.Sleep(12 * day)
		if n := len(w.ca.Issued()); n != len(hosts) {
			t.Errorf("%d of %d hosts have a certificate after 12 days", n, len(hosts))
		}
	})
}
