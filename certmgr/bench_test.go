package certmgr_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/cache"
)

// The benchmarks run autocert and certmgr side by side; compare them with
//
//	go test -run '^$' -bench . -count 10 ./certmgr | benchstat -col /impl -

// getter is what both packages have in common.
type getter interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// contestant is a Manager under comparison.
type contestant struct {
	impl string
	make func(hosts []string, c certmgr.Cache) getter
}

// contestants returns autocert with its only kind of list, and certmgr with its
// own list, with the list that it took over from autocert, and with a function
// of the user's, which could block for all that is known.
func contestants() []contestant {
	withPolicy := func(policy certmgr.HostPolicy, c certmgr.Cache) getter {
		return &certmgr.Manager{Prompt: certmgr.AcceptTOS, Cache: c, HostPolicy: policy}
	}
	return []contestant{
		{"autocert", func(hosts []string, c certmgr.Cache) getter {
			return &autocert.Manager{Prompt: autocert.AcceptTOS, Cache: c, HostPolicy: autocert.HostWhitelist(hosts...)}
		}},
		{"certmgr", func(hosts []string, c certmgr.Cache) getter {
			return &certmgr.Manager{Prompt: certmgr.AcceptTOS, Cache: c, Hosts: certmgr.MustAllowlist(hosts...)}
		}},
		{"certmgr-whitelist", func(hosts []string, c certmgr.Cache) getter {
			return withPolicy(certmgr.HostWhitelist(hosts...), c)
		}},
		{"certmgr-policy", func(hosts []string, c certmgr.Cache) getter {
			list := certmgr.HostWhitelist(hosts...)
			return withPolicy(func(ctx context.Context, host string) error { return list(ctx, host) }, c)
		}},
	}
}

// closeGetter ends a certmgr.Manager; autocert's cannot be ended.
func closeGetter(tb testing.TB, g getter) {
	tb.Helper()
	if m, ok := g.(*certmgr.Manager); ok {
		if err := m.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	}
}

func benchHosts(n int) []string {
	hosts := make([]string, n)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("host-%05d.example.com", i)
	}
	return hosts
}

// maxBenchHosts is the most that a benchmark uses.
const maxBenchHosts = 10_000

// benchBundles are cache entries for benchHosts(maxBenchHosts), signed once for
// all benchmarks. They are not changed.
var benchBundles = sync.OnceValue(func() [][]byte {
	ca := newTestCA()
	bundles := make([][]byte, maxBenchHosts)
	for i, host := range benchHosts(maxBenchHosts) {
		bundles[i] = ca.bundle(leafFor(host))
	}
	return bundles
})

// benchCache returns a cache with a certificate for each of benchHosts(n).
func benchCache(tb testing.TB, n int) *cache.Memory {
	tb.Helper()
	c := new(cache.Memory)
	bundles := benchBundles()
	for i, host := range benchHosts(n) {
		if err := c.Put(tb.Context(), host, bundles[i]); err != nil {
			tb.Fatal(err)
		}
	}
	return c
}

// benchHello returns a hello as Go's own client sends it, for any host.
func benchHello(tb testing.TB, host string) *tls.ClientHelloInfo {
	tb.Helper()
	var seen tls.ClientHelloInfo
	client, server := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		tls.Client(client, &tls.Config{ServerName: "example.com"}).HandshakeContext(tb.Context())
		client.Close()
	})
	tls.Server(server, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		seen = *hello
		return nil, net.ErrClosed
	}}).HandshakeContext(tb.Context())
	server.Close()
	wg.Wait()
	// Not a copy: its context ended with the handshake.
	return &tls.ClientHelloInfo{
		ServerName: host, CipherSuites: seen.CipherSuites, SupportedCurves: seen.SupportedCurves,
		SupportedPoints: seen.SupportedPoints, SignatureSchemes: seen.SignatureSchemes,
		SupportedProtos: []string{"h2", "http/1.1"}, SupportedVersions: seen.SupportedVersions,
	}
}

// withName returns hello with another server name.
func withName(hello *tls.ClientHelloInfo, host string) *tls.ClientHelloInfo {
	h := *hello
	h.ServerName = host
	return &h
}

// mustGet brings hosts into memory.
func mustGet(tb testing.TB, g getter, hello *tls.ClientHelloInfo, hosts ...string) {
	tb.Helper()
	for _, host := range hosts {
		if _, err := g.GetCertificate(withName(hello, host)); err != nil {
			tb.Fatal(err)
		}
	}
}

// visits returns hosts in a random order of arrival. Their names are adjacent
// in memory in that order, because the name of a real ClientHello was written a
// moment ago and is in the processor's cache; a Manager's data on the host is
// not.
func visits(hosts []string) []string {
	order := slices.Clone(hosts)
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	all := strings.Join(order, "")
	for i, host := range order {
		order[i], all = all[:len(host)], all[len(host):]
	}
	return order
}

// BenchmarkHot is the handshake that matters most: the certificate is in
// memory.
func BenchmarkHot(b *testing.B) {
	hello := benchHello(b, "")
	for _, n := range []int{1, maxBenchHosts} {
		hosts := benchHosts(n)
		store := benchCache(b, n)
		order := visits(hosts)
		for _, c := range contestants() {
			g := c.make(hosts, store)
			mustGet(b, g, hello, hosts...)
			b.Run(fmt.Sprintf("hosts=%d/mode=serial/impl=%s", n, c.impl), func(b *testing.B) { benchSerial(b, g, hello, order) })
			b.Run(fmt.Sprintf("hosts=%d/mode=parallel/impl=%s", n, c.impl), func(b *testing.B) { benchParallel(b, g, hello, order) })
			closeGetter(b, g)
		}
	}
}

func benchSerial(b *testing.B, g getter, hello *tls.ClientHelloInfo, order []string) {
	b.ReportAllocs()
	hello = withName(hello, "")
	i := 0
	for b.Loop() {
		hello.ServerName = order[i]
		if cert, err := g.GetCertificate(hello); err != nil || cert == nil {
			b.Fatal(err)
		}
		if i++; i == len(order) {
			i = 0
		}
	}
}

func benchParallel(b *testing.B, g getter, hello *tls.ClientHelloInfo, order []string) {
	b.ReportAllocs()
	var started atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		hello := withName(hello, "")
		i := int(started.Add(1)) * 7919 % len(order) // goroutines do not march in step
		for pb.Next() {
			hello.ServerName = order[i]
			if cert, err := g.GetCertificate(hello); err != nil || cert == nil {
				b.Error(err)
				return
			}
			if i++; i == len(order) {
				i = 0
			}
		}
	})
}

// BenchmarkDeny is a scanner's handshake: a name that is not on the list.
func BenchmarkDeny(b *testing.B) {
	hosts := benchHosts(1000)
	hello := benchHello(b, "denied.example.org")
	for _, c := range contestants() {
		g := c.make(hosts, new(cache.Memory))
		b.Run("mode=serial/impl="+c.impl, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.GetCertificate(hello); err == nil {
					b.Fatal("served")
				}
			}
		})
		b.Run("mode=parallel/impl="+c.impl, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := g.GetCertificate(hello); err == nil {
						b.Error("served")
						return
					}
				}
			})
		})
		closeGetter(b, g)
	}
}

// BenchmarkHeap reports how much memory a served host takes, and how much a
// denied name leaves behind.
func BenchmarkHeap(b *testing.B) {
	const n = 2000
	hosts := benchHosts(n)
	store := benchCache(b, n)
	hello := benchHello(b, "denied.example.com")
	for _, c := range contestants() {
		b.Run("impl="+c.impl, func(b *testing.B) {
			for b.Loop() {
				g := c.make(hosts, store)
				g.GetCertificate(hello) // what each Manager needs once
				before := heapInUse()
				mustGet(b, g, hello, hosts...)
				loaded := heapInUse()
				for _, host := range hosts {
					g.GetCertificate(withName(hello, "denied-"+host))
				}
				after := heapInUse()
				b.ReportMetric(float64(loaded-before)/n, "B/host")
				b.ReportMetric(float64(after-loaded)/n, "B/denied-name")
				closeGetter(b, g)
			}
		})
	}
}

func heapInUse() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers held
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
