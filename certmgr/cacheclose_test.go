package certmgr_test

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
)

// A read that Close interrupts is no failure of the cache.
func TestReadThatCloseInterruptsIsNoFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.get(func(ctx context.Context, _ string) error { return flight.Sleep(ctx, time.Second) })
		go w.get("a.example.com")
		synctest.Wait()
		if err := w.m.Close(); err != nil {
			t.Fatal(err)
		}
		if e := w.events.of(audit.CacheReadFailed); len(e) != 0 {
			t.Errorf("events %v", e)
		}
	})
}

// Close waits for the write of a certificate that has begun: what was issued is
// not lost.
func TestWriteOfACertificateOutlivesClose(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("b.example.com") // has the account key written
		w.cache.put(func(ctx context.Context, key string) error {
			if key != "a.example.com" {
				return nil
			}
			return flight.Sleep(ctx, 2*time.Second)
		})
		w.mustGet("a.example.com") // it does not wait for so long
		if err := w.m.Close(); err != nil {
			t.Error(err)
		}
		if _, err := w.cache.Cache.Get(t.Context(), "a.example.com"); err != nil {
			t.Errorf("the certificate is not in the cache: %v", err)
		}
	})
}

// A write that is tried again does not undo a later one.
func TestLateWriteLeavesANewerCertificate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("b.example.com")
		w.cache.put(func(_ context.Context, key string) error {
			if key == "a.example.com" {
				return errDisk
			}
			return nil
		})
		w.mustGet("a.example.com") // its write is tried again 10 s later
		w.cache.put(nil)
		if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		served := w.mustGet("a.example.com").Leaf
		time.Sleep(time.Hour)
		data, err := w.cache.Cache.Get(t.Context(), "a.example.com")
		if err != nil {
			t.Fatal(err)
		}
		if _, chain, err := bundle.Decode(data); err != nil || !bytes.Equal(chain[0], served.Raw) {
			t.Errorf("the cache has another certificate than the one that is served: %v", err)
		}
	})
}
