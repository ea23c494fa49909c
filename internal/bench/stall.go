package main

import (
	"context"
	"crypto/tls"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

const stalledHost = "stalled.example.com"

// measureStall measures many callers for a host for which the CA never answers,
// and calls for another host meanwhile.
func measureStall(ctx context.Context, l *lab, s sizes) ([]sample, error) {
	hot := l.site.hosts[0]
	l.site.hosts = append(l.site.hosts, stalledHost)
	if err := l.openToCA(ctx, 0); err != nil {
		return nil, err
	}
	l.site.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder, Host: stalledHost})
	if err := l.visitAll(ctx, []string{hot}); err != nil {
		return nil, err
	}
	idle, err := l.timeEach(ctx, hot, s.stall/4)
	if err != nil {
		return nil, err
	}
	goroutines := runtime.NumGoroutine()
	c := l.gather(ctx, s.callers)
	close(c.gate)
	busy, err := l.timeEach(ctx, hot, s.stall)
	if err != nil {
		return nil, err
	}
	blocked := c.inside.Load()
	samples := []sample{
		{Metric: "blocked", Unit: "callers", Value: float64(blocked)},
		{Metric: "goroutines", Unit: "more", Value: float64(runtime.NumGoroutine() - goroutines)},
	}
	samples = append(samples, c.refusals()...)
	return append(samples,
		sample{Metric: "hot mean", Unit: "ns/op", Value: busy.mean()},
		sample{Metric: "hot p99", Unit: "ns/op", Value: busy.percentile(99)},
		sample{Metric: "idle mean", Unit: "ns/op", Value: idle.mean()},
		sample{Metric: "idle p99", Unit: "ns/op", Value: idle.percentile(99)},
	), nil
}

// crowd is the callers for the stalled host, each in its own handshake. They
// wait at the gate.
type crowd struct {
	gate   chan struct{}
	inside atomic.Int64

	mu      sync.Mutex // protects refused
	refused histogram
}

// gather returns when all callers are at the gate. Callers that are not refused
// stay until the process exits.
func (l *lab) gather(ctx context.Context, callers int) *crowd {
	c := &crowd{gate: make(chan struct{})}
	var ready sync.WaitGroup
	ready.Add(callers)
	c.inside.Store(int64(callers))
	for range callers {
		go func() {
			_ = l.handshake(ctx, func(hello *tls.ClientHelloInfo) error {
				hello = withName(hello, stalledHost)
				ready.Done()
				<-c.gate
				began := time.Now()
				_, err := l.subject.get(hello)
				c.leave(time.Since(began))
				return err
			})
		}()
	}
	ready.Wait()
	return c
}

// leave counts a caller that got an error; no caller can get a certificate.
func (c *crowd) leave(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inside.Add(-1)
	c.refused.add(took)
}

// refusals returns how long the refused callers waited.
func (c *crowd) refusals() []sample {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused.n == 0 {
		const why = "nobody was refused: all of them wait"
		return []sample{missing("refused p50", "us", why), missing("refused p99", "us", why)}
	}
	return []sample{
		{Metric: "refused p50", Unit: "us", Value: c.refused.percentile(50) / 1000},
		{Metric: "refused p99", Unit: "us", Value: c.refused.percentile(99) / 1000},
	}
}

// timeEach calls for one host without a pause and returns the duration of each
// call.
func (l *lab) timeEach(ctx context.Context, host string, window time.Duration) (*histogram, error) {
	took := new(histogram)
	err := l.handshake(ctx, func(hello *tls.ClientHelloInfo) error {
		hello = withName(hello, host)
		began := time.Now()
		for now := began; now.Sub(began) < window; {
			if _, err := l.subject.get(hello); err != nil {
				return err
			}
			next := time.Now()
			took.add(next.Sub(now))
			now = next
		}
		return nil
	})
	return took, err
}
