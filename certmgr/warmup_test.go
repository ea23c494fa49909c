package certmgr_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// batchCache is a Cache that reads many entries in one request.
type batchCache struct {
	*faultyCache

	mu      sync.Mutex
	batches [][]string
	fault   func(ctx context.Context) error
}

func (c *batchCache) GetMany(ctx context.Context, keys []string) (map[string][]byte, error) {
	c.mu.Lock()
	c.batches = append(c.batches, keys)
	fault := c.fault
	c.mu.Unlock()
	if fault != nil {
		if err := fault(ctx); err != nil {
			return nil, err
		}
	}
	return cache.GetMany(ctx, c.faultyCache.Cache, keys)
}

// asked returns the requests so far.
func (c *batchCache) asked() [][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.batches)
}

// warm restarts the Manager with a cache that reads many entries, and starts it.
func (w *world) warm(c *batchCache, hosts ...string) {
	w.t.Helper()
	w.restart()
	w.m.Hosts = certmgr.MustAllowlist(hosts...)
	w.m.Cache = c
	w.cache.reads()
	if err := w.m.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func TestStartReadsManyAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hosts := newHosts("big.example", 20)
		w.m.Hosts = certmgr.MustAllowlist(hosts...)
		w.m.StartPace = -1
		w.m.Start(t.Context())
		time.Sleep(time.Hour)
		if err := w.cache.Cache.Put(t.Context(), hosts[3], []byte("garbage")); err != nil {
			t.Fatal(err)
		}
		c := &batchCache{faultyCache: w.cache}
		w.warm(c, append(hosts, "new.example.com")...)
		time.Sleep(time.Second)
		if len(c.asked()) != 1 || len(c.asked()[0]) != 21 {
			t.Errorf("requests for many: %q, want one for all", c.asked())
		}
		reads := w.cache.otherReads()
		for _, host := range hosts {
			if n := slices.Contains(reads, host); n != (host == hosts[3]) {
				t.Errorf("%s was read by itself: %t", host, n)
			}
		}
		if n := len(w.events.of(audit.CertificateLoaded)); n != 19 {
			t.Errorf("%d certificates were loaded, want 19", n)
		}
		if rejected := w.events.of(audit.CacheEntryRejected); len(rejected) != 1 {
			t.Errorf("rejected: %v, want the damaged one", rejected)
		}
		time.Sleep(time.Hour)
		before := w.ca.Count(acmetest.NewOrder)
		for _, host := range append(hosts, "new.example.com") {
			w.mustGet(host)
		}
		if n := w.ca.Count(acmetest.NewOrder) - before; n != 0 {
			t.Errorf("%d orders in handshakes", n)
		}
	})
}

// A request for many that hangs or fails delays a start once.
func TestStartGoesOnWithoutRequestsForMany(t *testing.T) {
	for name, tt := range map[string]struct {
		fault func(context.Context) error
		takes time.Duration
	}{
		"fails":  {func(context.Context) error { return errStoreDown }, 0},
		"hangs":  {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, cacheTimeout},
		"panics": {func(context.Context) error { panic("boom") }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.mustGet("a.example.com")
				time.Sleep(time.Hour)
				c := &batchCache{faultyCache: w.cache, fault: tt.fault}
				w.warm(c, "a.example.com")
				time.Sleep(tt.takes + time.Millisecond)
				if loaded := w.events.of(audit.CertificateLoaded); len(loaded) != 1 {
					t.Errorf("loaded: %v", loaded)
				}
			})
		})
	}
}
