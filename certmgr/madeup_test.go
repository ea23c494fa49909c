package certmgr_test

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

var madeUpNames = flag.Int("certmgr.names", 10_000, "made-up names that strangers ask for in TestMadeUpNamesLeaveLittle; CI has 50,000")

// However many names strangers make up, and whatever allows them, they leave at most
// 64 MiB of memory, no goroutine, and 1,000 records of failures in the Cache.
func TestMadeUpNamesLeaveLittle(t *testing.T) {
	const atOnce = 1000 // each tenth of a second
	anything := func(w *world) {
		w.m.HostPolicy = func(context.Context, string) error { return nil }
	}
	for name, tt := range map[string]struct {
		allow func(w *world)
		name  string
		names int
		fault func(w *world)
	}{
		"policy":       {anything, "www.made-up%d.com", *madeUpNames, func(w *world) { w.ca.Unresolve("*") }},
		"AllowAnyHost": {func(w *world) { w.m.HostPolicy = certmgr.AllowAnyHost }, "www.made-up%d.com", *madeUpNames / 10, func(w *world) { w.ca.Unresolve("*") }},
		"wildcard":     {func(w *world) { w.m.Hosts.Add("*.example.net") }, "made-up%d.example.net", *madeUpNames / 10, func(w *world) { w.ca.Unresolve("*") }},
		"CA that hangs": {anything, "www.made-up%d.com", *madeUpNames / 10,
			func(w *world) { w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder}) }},
		"cache that fails": {anything, "www.made-up%d.com", *madeUpNames / 10, (*world).failReads},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.HandshakeWait = -1
				tt.allow(w)
				if err := w.m.Obtain(t.Context(), "a.example.com"); err != nil { // all is set up
					t.Fatal(err)
				}
				w.ca.Delay(acmetest.Match{Endpoint: acmetest.NewOrder}, time.Second)
				tt.fault(w)
				goroutines, heap := runtime.NumGoroutine(), heapInUse()
				for i := range tt.names {
					if _, err := w.get(fmt.Sprintf(tt.name, i)); err == nil {
						t.Fatal("a made-up name was issued")
					}
					if i%atOnce == atOnce-1 {
						time.Sleep(100 * time.Millisecond)
					}
				}
				time.Sleep(time.Hour)
				w.ca.ForgetRequests()
				w.cache.get(nil)
				synctest.Wait()
				if n := runtime.NumGoroutine() - goroutines; n > 5 {
					t.Errorf("%d goroutines more than before", n)
				}
				if grown := heapInUse() - heap; grown > 64<<20 {
					t.Errorf("%d names left %d MiB of memory", tt.names, grown>>20)
				} else {
					t.Logf("%d names left %.1f MiB", tt.names, float64(grown)/(1<<20))
				}
				records, others := 0, 0
				for key := range w.entries() {
					switch {
					case strings.HasSuffix(key, "+failure"):
						records++
					case strings.Contains(key, "made-up"):
						others++
					}
				}
				if records > 1000 || others > 0 {
					t.Errorf("%d records of failures, and %d other entries of strangers in the Cache", records, others)
				}
				t.Logf("%d records of failures in the Cache", records)
			})
		})
	}
}

// entries returns the keys of what was put into the Cache and is still there.
func (w *world) entries() map[string]bool {
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	keys := make(map[string]bool)
	for _, key := range w.cache.puts {
		if _, err := w.cache.Cache.Get(w.t.Context(), key); err == nil {
			keys[key] = true
		}
	}
	return keys
}
