package sim

import (
	"flag"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

var (
	firstSeed = flag.Uint64("sim.seed", 1, "the first seed")
	seedCount = flag.Int("sim.seeds", 1, "how many seeds; CI runs 8")
	hostCount = flag.Int("sim.hosts", 3, "how many hosts")
	yearCount = flag.Int("sim.years", 3, "how many years; CI runs 10")
	episodes  = flag.Int("sim.episodes", 200, "how many new hosts")
	episode1  = flag.Int("sim.episode", 0, "the first one")
	plantBugs = flag.Bool("sim.bugs", false, "plant bugs, and see that they are found")
)

// TestTenYears simulates years of virtual time (-sim.years) with each seed and
// checks all the time that
//
//   - no handshake waits longer than its limit;
//   - no handshake for an allowed host gets an expired, revoked or wrong
//     certificate, or is refused when a certificate could have been served;
//   - no limit of the CA is exceeded, by its own count;
//   - hosts with a certificate of the operator's own get that one, nothing is
//     ordered for them, and when it ends the CA's certificate is there already;
//   - there is one order for a host at a time;
//   - each certificate that the CA issued is stored, unless cache or host were
//     away meanwhile;
//   - each change of state has its event, in order and without a gap;
//   - hosts that are not allowed cost nothing;
//   - nothing is left at the end.
func TestTenYears(t *testing.T) {
	seeds, hosts := *seedCount, *hostCount
	if raceEnabled { // ten times slower
		seeds, hosts = min(seeds, 1), min(hosts, 3)
	}
	for i := range seeds {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed, hosts, time.Duration(*yearCount)*year)
				w.again = fmt.Sprintf("TestTenYears -sim.seed %d -sim.seeds 1 -sim.hosts %d -sim.years %d", seed, hosts, *yearCount)
				w.live()
				w.end()
			})
		})
	}
}

// TestNewHosts lets one new host after another get its first certificate while
// something goes wrong: an exchange fails, the CA is out of order for a while or
// odd, the process is killed, the machine is suspended. It checks that
//
//   - no host is refused for longer than the trouble and some seconds or
//     minutes, depending on how long it lasted;
//   - one certificate is issued, it is stored, and no order is left to be
//     resumed;
//   - no Retry-After is ignored and no limit of the CA is exceeded.
func TestNewHosts(t *testing.T) {
	seeds := *seedCount
	if raceEnabled {
		seeds = 1
	}
	for i := range seeds {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed, 0, 0)
				w.again = fmt.Sprintf("TestNewHosts -sim.seed %d -sim.seeds 1", seed)
				w.liveWithNewHosts(*episode1, *episodes)
				w.end()
			})
		})
	}
}
