package certmgr_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// A host whose lock the store refuses, or never answers about, keeps no other host from
// being issued, however often it is visited.
func TestFleetLockOfOneHostFails(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		name := "refused"
		if hangs {
			name = "hanging"
		}
		t.Run(name, func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				const bad, good = "bad.example.com", "good.example.com"
				m := s.machine(bad, good)
				over := make(chan struct{})
				m.setFault(func(_ context.Context, step string) error {
					if step != "lock "+bad+"+issue" {
						return nil
					}
					if hangs {
						<-over
					}
					return errStoreDown
				})
				var ended atomic.Bool
				go func() {
					for !ended.Load() {
						m.visit(bad)
						time.Sleep(50 * time.Millisecond)
					}
				}()
				time.Sleep(10*time.Second + 25*time.Millisecond)
				_, took := s.await(m, good, 10*time.Second)
				ended.Store(true)
				close(over)
				time.Sleep(time.Second)
				if took > time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
