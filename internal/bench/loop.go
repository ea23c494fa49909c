package main

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// call is one call of GetCertificate. It may change the hello.
type call func(hello *tls.ClientHelloInfo) error

// loop calls f for the names, in turn, in as many goroutines as there are
// processors. It returns the time and the allocations per call.
func (l *lab) loop(ctx context.Context, names []string, window time.Duration, f call) ([]sample, error) {
	if _, _, err := l.calls(ctx, names, window/4, f); err != nil { // warm-up: caches fill, the heap grows to its size
		return nil, err
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cpu := cpuTime()
	n, took, err := l.calls(ctx, names, window, f)
	if err != nil {
		return nil, err
	}
	cpu = cpuTime() - cpu
	runtime.ReadMemStats(&after)
	return []sample{
		{Metric: "time", Unit: "ns/op", Value: float64(took.Nanoseconds()) / float64(n)},
		{Metric: "cpu", Unit: "ns/op", Value: float64(cpu.Nanoseconds()) / float64(n)},
		{Metric: "allocations", Unit: "allocs/op", Value: float64(after.Mallocs-before.Mallocs) / float64(n)},
	}, nil
}

// batch is the number of calls between two readings of the clock.
const batch = 64

// calls makes calls for at least window. It returns their number and the wall
// time that they took.
func (l *lab) calls(ctx context.Context, names []string, window time.Duration, f call) (int64, time.Duration, error) {
	var total atomic.Int64
	var all errgroup.Group
	workers := runtime.GOMAXPROCS(0)
	began := time.Now()
	for w := range workers {
		all.Go(func() error {
			return l.handshake(ctx, func(hello *tls.ClientHelloInfo) error {
				hello = withName(hello, "")
				next := w * len(names) / workers // each goroutine starts at another name
				n := int64(0)
				for n == 0 || time.Since(began) < window {
					for range batch {
						hello.ServerName = names[next]
						if next++; next == len(names) {
							next = 0
						}
						if err := f(hello); err != nil {
							return err
						}
					}
					n += batch
				}
				total.Add(n)
				return nil
			})
		})
	}
	err := all.Wait()
	return total.Load(), time.Since(began), err
}

// arrivals returns names in a random order of arrival, the same for all
// subjects. They are adjacent in memory in that order, because the name of a
// real ClientHello was read a moment ago and is in the processor's cache.
func arrivals(names []string) []string {
	order := slices.Clone(names)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	all := strings.Join(order, "")
	for i, name := range order {
		order[i], all = all[:len(name)], all[len(name):]
	}
	return order
}
