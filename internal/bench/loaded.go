package main

import (
	"context"
	"runtime"
	"time"
)

// settle is the time for a subject's background work after a load.
const settle = 200 * time.Millisecond

// measureLoaded measures a start with a warm cache and the memory in use after
// it.
func measureLoaded(ctx context.Context, l *lab) ([]sample, error) {
	if err := l.prepare(ctx); err != nil {
		return nil, err
	}
	before := liveHeap()
	cpu, began := cpuTime(), time.Now()
	if err := l.subject.start(l.site); err != nil {
		return nil, err
	}
	if err := l.visitAll(ctx, l.site.hosts); err != nil {
		return nil, err
	}
	took := time.Since(began)
	cpu = cpuTime() - cpu
	<-time.After(settle)
	after := liveHeap()
	runtime.KeepAlive(l)
	return []sample{
		{Metric: "load", Unit: "ms", Value: milliseconds(took)},
		{Metric: "cpu", Unit: "ms", Value: milliseconds(cpu)},
		{Metric: "heap", Unit: "B/host", Value: float64(after-before) / float64(len(l.site.hosts))},
	}, nil
}

// liveHeap returns how many bytes are reachable.
func liveHeap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // frees what pools and finalizers held
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
