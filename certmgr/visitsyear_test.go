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

// How much of the CPU time of a quiet year is for keeping visits: at most 5% on a
// machine that does nothing else. It is measured in a test because a bubble needs
// one, and it only reports, as a benchmark does.
func TestShareOfVisitsInAQuietYear(t *testing.T) {
	if *yearRounds == 0 {
		t.Skip("-certmgr.years is 0")
	}
	for what, visit := range map[string]func(*world){
		"no client comes":         func(*world) {},
		"a client comes each day": func(w *world) { w.mustGet("a.example.com") },
	} {
		t.Run(what, func(t *testing.T) {
			var with, without []time.Duration
			for range *yearRounds { // in turn: the machine may be faster at times
				with = append(with, quietYear(t, func(*certmgr.Manager) {}, visit))
				without = append(without, quietYear(t, certmgr.DoNotKeepVisits, visit))
			}
			slices.Sort(with)
			slices.Sort(without)
			a, b := with[len(with)/2], without[len(without)/2]
			t.Logf("medians: with %v, of %v\nwithout %v, of %v\nvisits take %.1f%%", a, with, b, without, 100*(1-float64(b)/float64(a)))
		})
	}
}

// quietYear returns the CPU time of a year with a visit each day.
func quietYear(t *testing.T, prepare func(*certmgr.Manager), visit func(*world)) (cpu time.Duration) {
	t.Helper()
	inBubble(t, func(t *testing.T, w *world) {
		prepare(w.m)
		before := cpuTime(t)
		w.mustGet("a.example.com")
		for range 365 {
			visit(w)
			time.Sleep(day)
		}
		cpu = cpuTime(t) - before
		// With a different number of renewals years could not be compared. The
		// last one may be just after the end.
		if n := len(w.ca.Issued()); n < 6 || n > 8 {
			t.Errorf("%d certificates", n)
		}
	})
	return cpu
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
