package certmgr

import (
	"crypto/x509"
	"fmt"
	"math"
	"math/big"
	"runtime"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/pace"
)

// BenchmarkScheduler measures the scheduler of renewals with so many hosts: the
// time to add one, the time to take one that is due from the agenda and make the
// next appointment, and the memory that one needs.
func BenchmarkScheduler(b *testing.B) {
	for _, hosts := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			now := time.Now()
			certs := benchCertificates(hosts, now)
			var add, due time.Duration
			var bytes uint64
			for b.Loop() {
				e := &env{settings: newSettings(new(Manager)), clock: newClock(func() time.Time { return now }), tasks: flight.NewTasks()}
				e.tasks.Close() // nothing runs: the scheduler alone is measured
				r := newSchedule(e, newMemory(func(string) bool { return false }), new(progress), new(startPace))
				r.authority = newAuthority("")
				for _, c := range certs {
					r.memory.publish(c, grant{}, now, alwaysListed)
				}
				before := heapInUse()
				begin := time.Now()
				for _, c := range certs {
					r.planLoaded(c)
				}
				add += time.Since(begin)
				bytes += heapInUse() - before

				begin = time.Now()
				agenda := &r.agendas[agendaRenew]
				agenda.Limit = math.MaxInt
				end := now.AddDate(1, 0, 0)
				for range certs {
					it, _, _ := agenda.Next(end)
					agenda.Set(&it.renew, it.renew.At().AddDate(2, 0, 0))
				}
				due += time.Since(begin)
				runtime.KeepAlive(r)
			}
			n := float64(b.N) * float64(hosts)
			b.ReportMetric(float64(add.Nanoseconds())/n, "ns/add")
			b.ReportMetric(float64(due.Nanoseconds())/n, "ns/due")
			b.ReportMetric(float64(bytes)/n, "B/host")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// benchCertificates returns certificates without content; they share a leaf.
func benchCertificates(n int, now time.Time) []*certificate {
	leaf := &x509.Certificate{AuthorityKeyId: make([]byte, 20), SerialNumber: big.NewInt(math.MaxInt64)}
	certs := make([]*certificate, n)
	for i := range certs {
		certs[i] = &certificate{served: served{leaf: leaf, class: p256Keys}, subject: newSubject(bundle.ECDSA, "https://ca.example/dir", fmt.Sprintf("h%d.example.com", i)),
			notBefore: now.Add(-time.Duration(i%90) * 24 * time.Hour), notAfter: now.Add(time.Duration(90-i%90) * 24 * time.Hour)}
	}
	return certs
}

// Time that Start takes for many registered domains.
func BenchmarkStartPaceOfManyDomains(b *testing.B) {
	for range b.N {
		p := &startPace{every: pace.OrderEvery}
		for i := range 30_000 {
			p.wait(fmt.Sprintf("www.d%d.com", i), new(place), time.Hour)
		}
	}
}
