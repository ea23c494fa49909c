//go:build unix

package certmgr_test

import (
	"flag"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
)

var yearRounds = flag.Int("certmgr.years", 0, "how many quiet years TestShareOfVisitsInAQuietYear takes the CPU time of, with and without visits; 0 skips it")

// Of the CPU time of a quiet year, in which a client comes each day, at most 5% are for
// keeping visits. Set the flag, on a machine that does nothing else.
func TestShareOfVisitsInAQuietYear(t *testing.T) {
	if *yearRounds == 0 {
		t.Skip("-certmgr.years is 0")
	}
	year := func(prepare func(*certmgr.Manager)) (cpu time.Duration) {
		inBubble(t, func(t *testing.T, w *world) {
			prepare(w.m)
			before := cpuTime(t)
			for range 365 {
				w.mustGet("a.example.com")
				time.Sleep(day)
			}
			cpu = cpuTime(t) - before
		})
		return cpu
	}
	var with, without []time.Duration
	for range *yearRounds { // in turn: the machine may be faster at times
		with = append(with, year(func(*certmgr.Manager) {}))
		without = append(without, year(certmgr.DoNotKeepVisits))
	}
	a, b := slices.Min(with), slices.Min(without)
	share := 1 - float64(b)/float64(a)
	t.Logf("with %v %v\nwithout %v %v\nvisits take %.1f%%", a, with, b, without, 100*share)
	if share > 0.05 {
		t.Errorf("keeping visits takes %.1f%% of a quiet year's CPU time, want at most 5%%", 100*share)
	}
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
