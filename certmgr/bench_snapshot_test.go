package certmgr

import (
	"crypto/tls"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkSnapshotWithWriters measures what handshakes notice of a Snapshot of
// so many hosts while others are loaded: max-ms is the longest of those for hosts
// in memory, load-max-ms that of bringing a host into memory, and idle-max-ms
// and idle-load-max-ms are the same before. A machine that is busy shows itself
// in the latter.
func BenchmarkSnapshotWithWriters(b *testing.B) {
	const n = 200_000
	now := time.Now()
	certs := benchCertificates(2*n, now.AddDate(1, 0, 0))
	for _, c := range certs {
		c.expires = c.notAfter.Unix()
	}
	names := make([]string, n)
	for i := range names {
		names[i] = certs[i].subject.host()
	}
	m := &Manager{Hosts: MustAllowlist(names...)}
	m.init()
	defer m.Close()
	load := func(c *certificate) {
		m.engine.server.memory.publish(c, grant{trust: listed}, now, alwaysListed)
		m.engine.report.schedule.planLoaded(c)
	}
	for _, c := range certs[:n] {
		load(c)
	}
	next := n
	runtime.GC()
	measure := func(work func()) (hot, loads []time.Duration) {
		done := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			defer close(done)
			work()
		})
		all.Go(func() {
			for ; !isClosed(done); next++ {
				begin := time.Now()
				load(certs[next%len(certs)])
				loads = append(loads, time.Since(begin))
				time.Sleep(2 * time.Millisecond)
			}
		})
		hello := &tls.ClientHelloInfo{}
		for !isClosed(done) {
			hello.ServerName = names[rand.IntN(n)]
			begin := time.Now()
			if _, err := m.GetCertificate(hello); err != nil {
				b.Error(err)
				break
			}
			hot = append(hot, time.Since(begin))
			time.Sleep(20 * time.Microsecond) // a loop would be preempted, for the scheduler's slice of 10 ms
		}
		all.Wait()
		return hot, loads
	}
	for b.Loop() {
		idle, idleLoads := measure(func() { time.Sleep(300 * time.Millisecond) })
		hot, loads := measure(func() { m.Snapshot() })
		slices.Sort(hot)
		b.ReportMetric(ms(slices.Max(idle)), "idle-max-ms")
		b.ReportMetric(ms(slices.Max(idleLoads)), "idle-load-max-ms")
		b.ReportMetric(ms(hot[len(hot)-1]), "max-ms")
		b.ReportMetric(ms(hot[len(hot)*999/1000]), "p99.9-ms")
		b.ReportMetric(ms(slices.Max(loads)), "load-max-ms")
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
