package certmgr_test

import (
	"context"
	"crypto/tls"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
)

// Keeping the visits costs next to nothing while nobody comes: what did not change is
// not written, and is read once a day for the sake of other machines.
func TestQuietDayReadsTheVisitsOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const days = 50 // nothing is renewed meanwhile
		reads, writes := w.countVisits()
		w.m.Start(t.Context())
		time.Sleep(time.Minute)
		w.mustGet("a.example.com")
		time.Sleep(days*day - 2*time.Minute)
		if n := reads.Load(); n < days || n > days+2 {
			t.Errorf("%d reads in %d days", n, days)
		}
		if n := writes.Load(); n < 1 || n > 3 { // at first, after a minute, and the visit
			t.Errorf("%d writes of what did not change", n)
		}
	})
}

// A visit costs a write on each day, and not one in each hour.
func TestDayWithVisitsWritesThemOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const days = 20
		reads, writes := w.countVisits()
		for range days * 12 {
			w.mustGet("a.example.com")
			time.Sleep(2 * time.Hour)
		}
		if n := writes.Load(); n < days-1 || n > days+1 {
			t.Errorf("%d writes in %d days", n, days)
		}
		if n := reads.Load(); n > 2*days {
			t.Errorf("%d reads in %d days", n, days)
		}
	})
}

// countVisits returns how often the Cache's record of visits was read and written.
func (w *world) countVisits() (reads, writes *atomic.Int64) {
	reads, writes = new(atomic.Int64), new(atomic.Int64)
	count := func(n *atomic.Int64) func(context.Context, string) error {
		return func(_ context.Context, key string) error {
			if key == visitsKey {
				n.Add(1)
			}
			return nil
		}
	}
	w.cache.get(count(reads))
	w.cache.put(count(writes))
	return reads, writes
}

// Machines with one Cache know of each other's visits within a day, also of those
// whose record the other has overwritten.
func TestMachinesMergeTheirVisits(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		other := w.manager()
		defer other.Close()
		w.m.Start(t.Context())
		time.Sleep(time.Minute)
		other.Start(t.Context())
		time.Sleep(time.Minute)
		for range 30 {
			w.mustGet("a.example.com")
			time.Sleep(3 * time.Hour)
			if _, err := other.GetCertificate(&tls.ClientHelloInfo{ServerName: "b.example.com"}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(21 * time.Hour)
		}
		time.Sleep(2 * time.Hour)
		third := w.manager() // which has only the record
		defer third.Close()
		third.Start(t.Context())
		synctest.Wait()
		for name, m := range map[string]*certmgr.Manager{"one": w.m, "the other": other, "a third": third} {
			for _, h := range m.StaleHosts(5 * day) {
				if h.Entry == "a.example.com" || h.Entry == "b.example.com" {
					t.Errorf("%s: %+v", name, h)
				}
			}
		}
	})
}
