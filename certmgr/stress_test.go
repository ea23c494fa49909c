package certmgr_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// Everything at once, with callbacks that fail, panic and hang: nothing is left
// behind, no slot, lock, probe, waiter or goroutine.
func TestNothingIsLeftAfterEverythingAtOnce(t *testing.T) {
	for round := range 2 {
		policyWorld(t, nil, func(t *testing.T, w *world) {
			w.m.Hosts = certmgr.MustAllowlist("*.example.com", "a.example.com", "b.example.com")
			w.m.HostPolicy = func(ctx context.Context, host string) error {
				switch rand.N(6) {
				case 0:
					return fmt.Errorf("no")
				case 1:
					panic("p")
				case 2:
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
			w.cache.get(func(ctx context.Context, key string) error {
				switch rand.N(8) {
				case 0:
					return fmt.Errorf("no")
				case 1:
					panic("p")
				case 2:
					time.Sleep(time.Second)
				}
				return nil
			})
			w.cache.put(func(ctx context.Context, key string) error {
				if rand.N(3) == 0 {
					panic("x")
				}
				return nil
			})
			w.ca.FailValidation("h3.example.org", "", acmetest.Problem{Type: "dns"})
			w.ca.BadNonceRate(0.2)
			hosts := []string{"a.example.com", "b.example.com", "c.example.com", "h1.example.org", "h2.example.net", "h3.example.org"}
			var wg sync.WaitGroup
			stop := time.Now().Add(5 * time.Minute)
			for g := range 12 {
				wg.Go(func() {
					for time.Now().Before(stop) {
						host := hosts[rand.N(len(hosts))]
						ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.N(20))*time.Second)
						switch {
						case g == 0:
							w.m.Hosts.Remove("a.example.com")
							w.m.Hosts.Add("a.example.com", "h1.example.org")
						case g == 1:
							w.m.Snapshot()
						case g == 2:
							w.m.Obtain(ctx, host)
						case g == 3:
							w.m.Renew(ctx, host)
						case g == 4:
							w.handshake(ctx, host)
						case g == 5 && rand.N(50) == 0 && round%2 == 0:
							w.m.Close()
						case g == 6:
							w.m.Start(ctx)
							time.Sleep(time.Minute)
						default:
							c, err := w.get(host)
							if (c == nil) == (err == nil) {
								t.Errorf("%v %v", c, err)
							}
						}
						cancel()
						time.Sleep(time.Duration(rand.N(3000)) * time.Millisecond)
					}
				})
			}
			wg.Wait()
			time.Sleep(10 * time.Minute)
			s := w.m.Snapshot()
			if !s.Closed && s.Waiting != 0 {
				t.Errorf("waiting %d", s.Waiting)
			}
			w.m.Close()
			time.Sleep(time.Minute)
			for _, left := range certmgr.Leftovers(w.m, hosts...) {
				t.Error(left)
			}
		})
	}
}
