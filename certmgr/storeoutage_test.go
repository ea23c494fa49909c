package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// of counts the events of kinds.
func (w *world) counted(kinds ...audit.Kind) (n int) {
	for _, kind := range kinds {
		n += len(w.events.of(kind))
	}
	return n
}

// A store that is down harms no handshake of a host in memory, is one event for all
// hosts and records, which is repeated for the alert, and ends by itself with another.
func TestStoreOfAFleetThatIsDownIsOneEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		store, machines := w.fleet()
		defer closeAll(machines)
		m := machines[0]
		var hosts []string
		for i := range 40 {
			hosts = append(hosts, fmt.Sprintf("h%d.example.com", i))
		}
		m.Hosts = certmgr.MustAllowlist(append(hosts, "a.example.com")...)
		if err := m.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		store.down(true)
		began := time.Now()
		for time.Since(began) < 25*time.Minute {
			for _, host := range hosts {
				if _, err := m.GetCertificate(hello(host)); !errors.Is(err, certmgr.ErrCache) {
					t.Fatalf("%s: %v, want that the cache has failed", host, err)
				}
			}
			if _, err := m.GetCertificate(hello("a.example.com")); err != nil {
				t.Fatalf("a host in memory is refused: %v", err)
			}
			time.Sleep(20 * time.Second)
			if n := w.counted(audit.CacheUnavailable); time.Since(began) < 9*time.Minute && n != 1 {
				t.Fatalf("%d events after %v, want one", n, time.Since(began))
			}
		}
		if n := w.counted(audit.CacheUnavailable); n != 3 {
			t.Errorf("%d events in 25 minutes, want one each 10 minutes", n)
		}
		if n := w.counted(audit.CacheReadFailed, audit.CacheWriteFailed); n != 0 {
			t.Errorf("%d events of single entries beside that of the outage", n)
		}
		store.down(false)
		time.Sleep(20 * time.Second)
		if n := w.counted(audit.CacheAvailable); n != 1 {
			t.Errorf("%d events of the end, want one without that anybody has asked", n)
		}
		if err := m.Obtain(t.Context(), "h1.example.com"); err != nil {
			t.Errorf("after the end: %v", err)
		}
		time.Sleep(time.Hour)
		if n := w.counted(audit.CacheUnavailable, audit.CacheAvailable); n != 4 {
			t.Errorf("%d events of outages, want no other one", n)
		}
	})
}

// A single entry that cannot be read is told as such.
func TestEntryThatCannotBeReadIsNoOutageOfTheStore(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, machines := w.fleet()
		defer closeAll(machines)
		w.cache.get(func(_ context.Context, key string) error {
			if key == "a.example.com" {
				return errors.New("permission denied")
			}
			return nil
		})
		for range 10 {
			machines[0].GetCertificate(hello("a.example.com"))
			machines[0].GetCertificate(hello("b.example.com"))
			time.Sleep(2 * time.Second)
		}
		if n := w.counted(audit.CacheUnavailable, audit.CacheAvailable); n != 0 {
			t.Errorf("%d events of an outage", n)
		}
		if n := w.counted(audit.CacheReadFailed); n != 1 {
			t.Errorf("%d events of the entry, want one", n)
		}
	})
}
