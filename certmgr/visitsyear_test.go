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

// How much of the CPU time of a quiet year, in which a client comes each day, is for
// keeping visits: at most 5% on a machine that does nothing else. It is measured in a
// test because a bubble needs one, and it only reports, as a benchmark does.
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
	slices.Sort(with)
	slices.Sort(without)
	a, b := with[len(with)/2], without[len(without)/2]
	t.Logf("medians: with %v, of %v\nwithout %v, of %v\nvisits take %.1f%%", a, with, b, without, 100*(1-float64(b)/float64(a)))
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
