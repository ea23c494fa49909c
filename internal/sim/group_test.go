package sim

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestTenYearsOfAGroup is TestTenYears for hosts that share a certificate. Their
// names move away and come back, leave the list and join it again. That is nobody
// else's trouble: each check holds for each name by itself.
func TestTenYearsOfAGroup(t *testing.T) {
	const hosts = 4
	kinds := []incidentKind{dnsMoved, hostRemoved, caOutage, caStorm, cacheReads, cacheWrites, restart, restartEmpty, lostExchange, killed, asleep}
	seeds := *seedCount
	if raceEnabled {
		seeds = 1
	}
	for i := range seeds {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := makeWorld(t, seed, hosts, time.Duration(*yearCount)*year)
				w.again = fmt.Sprintf("TestTenYearsOfAGroup -sim.seed %d -sim.seeds 1 -sim.years %d", seed, *yearCount)
				w.group = true
				for i := range w.hosts { // an address is in no group
					w.hosts[i] = newHost(fmt.Sprintf("www%d.site%d.example", i, i%3))
				}
				w.plans = slices.DeleteFunc(slices.Clone(plans), func(p *incidentPlan) bool { return !slices.Contains(kinds, p.kind) })
				w.start()
				w.live()
				shared := 0
				for _, c := range w.ca.Issued() {
					if len(c.DNSNames) > 1 {
						shared++
					}
				}
				if n := len(w.ca.Issued()); shared < n/4 {
					t.Errorf("%d of %d certificates were for several names", shared, n)
				}
				w.end()
			})
		})
	}
}
