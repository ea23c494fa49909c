package certmgr

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/bundle"
)

// While an issuance hangs, a certificate that another machine wrote is found by
// the host's visitors.
func TestCertificateThatTurnsUpDuringAnIssuanceIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		w.wantErr("a.example.com", ErrInFlight)
		now := time.Now()
		w.cache.Cache.Put(t.Context(), "a.example.com", testBundle(t, "a.example.com", now.Add(-day), now.Add(80*day)))
		time.Sleep(11 * time.Second)
		w.wantErr("a.example.com", ErrInFlight) // has the cache read
		synctest.Wait()
		w.mustGet("a.example.com")
		if s := w.m.Snapshot(); s.Issuing != 1 {
			t.Errorf("%d issuances in flight, want the one that hangs", s.Issuing)
		}
	})
}

// Of two certificates the one that was issued later is served, whichever of them
// ends later: lifetimes shrink over the years.
func TestLaterCertificateIsServed(t *testing.T) {
	tests := []struct {
		name     string
		from, to time.Duration // of the one in the Cache; the one in memory is issued now, for 90 days
		loaded   bool
	}{
		{"issued earlier, ends later", -10 * day, 200 * day, false},
		{"issued earlier, ends earlier", -10 * day, 50 * day, false},
		{"issued later, ends earlier", 2 * time.Hour, 50 * day, true},
		{"issued later, ends later", 2 * time.Hour, 200 * day, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				have, now := w.mustGet("a.example.com").Leaf, time.Now()
				w.cache.Cache.Put(t.Context(), "a.example.com", testBundle(t, "a.example.com", now.Add(tt.from), now.Add(tt.to)))
				s := w.m.engine.server
				s.loader.read(t.Context(), hostSubject("a.example.com", bundle.ECDSA, s.dir), grant{standing: vetted}, quietly)
				if loaded := !w.mustGet("a.example.com").Leaf.Equal(have); loaded != tt.loaded {
					t.Errorf("the one from the Cache is served: %v, want %v", loaded, tt.loaded)
				}
			})
		})
	}
}
