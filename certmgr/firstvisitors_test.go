package certmgr_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
)

// Visitors who come to a new host at the same moment, as docs/switching.md says:
// without further settings one of 20 is served. With InFlightWait, or if Start
// was faster, all of them are.
func TestTwentyFirstVisitors(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(t *testing.T, w *world)
		want int32 // visitors served
	}{
		"import line alone": {func(*testing.T, *world) {}, 1},
		"InFlightWait":      {func(_ *testing.T, w *world) { w.m.InFlightWait = 10 * time.Second }, 20},
		"Start": {func(t *testing.T, w *world) {
			if err := w.m.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				c.set(t, w)
				var served, refused atomic.Int32
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						switch _, err := w.get("a.example.com"); {
						case err == nil:
							served.Add(1)
						case errors.Is(err, certmgr.ErrInFlight):
							refused.Add(1)
						}
					})
				}
				wg.Wait()
				if served.Load() != c.want || served.Load()+refused.Load() != 20 {
					t.Errorf("%d of 20 are served, %d refused by ErrInFlight, want %d served", served.Load(), refused.Load(), c.want)
				}
				synctest.Wait()
				w.mustGet("a.example.com") // whoever comes later is served
				w.wantOrders("a.example.com", 1)
			})
		})
	}
}
