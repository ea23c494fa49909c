package main

import (
	"context"
	"fmt"
	"time"
)

// measurement is one experiment, which one process makes with one subject.
type measurement struct {
	name    string
	procs   int  // GOMAXPROCS of the process; zero is the machine's
	entries int  // the number of certificates that it needs
	issues  bool // needs a subject that gets certificates from a CA

	run func(ctx context.Context, l *lab) ([]sample, error)
}

// sizes are how much each measurement does.
type sizes struct {
	hot, loaded, cold int           // hosts
	denied            int           // names
	callers           int           // callers for the stalled host
	step              time.Duration // time per step of the slow CA
	window            time.Duration // minimum duration of hot and deny
	stall             time.Duration // duration of stall
}

func fullSizes() sizes {
	return sizes{
		hot: 10_000, loaded: 20_000, cold: 50, denied: 1024, callers: 2000,
		step: 150 * time.Millisecond, window: time.Second, stall: 2 * time.Second,
	}
}

// quickSizes are for a test of the command itself: their figures mean nothing.
func quickSizes() sizes {
	return sizes{
		hot: 20, loaded: 20, cold: 3, denied: 16, callers: 20,
		step: 5 * time.Millisecond, window: 5 * time.Millisecond, stall: 50 * time.Millisecond,
	}
}

// measurements returns all measurements in the order in which they run.
func measurements(s sizes) []measurement {
	var all []measurement
	for _, hosts := range []int{1, s.hot} {
		for _, procs := range []int{1, 2} {
			all = append(all, measurement{
				name: fmt.Sprintf("hot/hosts=%d/procs=%d", hosts, procs), procs: procs, entries: hosts,
				run: func(ctx context.Context, l *lab) ([]sample, error) { return measureHot(ctx, l, s) },
			})
		}
	}
	for _, policy := range []string{"any", "nonblocking"} {
		for _, procs := range []int{1, 2} {
			all = append(all, measurement{
				name: fmt.Sprintf("deny/policy=%s/procs=%d", policy, procs), procs: procs,
				run: func(ctx context.Context, l *lab) ([]sample, error) {
					l.site.nonBlocking = policy == "nonblocking"
					return measureDeny(ctx, l, s)
				},
			})
		}
	}
	all = append(all, measurement{
		name: fmt.Sprintf("loaded/hosts=%d", s.loaded), entries: s.loaded, run: measureLoaded,
	})
	for _, step := range []time.Duration{0, s.step} {
		all = append(all, measurement{
			name: fmt.Sprintf("issue/hosts=%d/step=%v", s.cold, step), issues: true,
			run: func(ctx context.Context, l *lab) ([]sample, error) { return measureIssue(ctx, l, s.cold, step) },
		})
	}
	return append(all, measurement{
		name: fmt.Sprintf("stall/callers=%d", s.callers), procs: 2, entries: 1, issues: true,
		run: func(ctx context.Context, l *lab) ([]sample, error) { return measureStall(ctx, l, s) },
	})
}
