package certmgr_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

const (
	stallVisitors = 2000
	stallWait     = 500 * time.Millisecond // certmgr's HandshakeWait
	stallHost     = "stalled.example.com"
)

// BenchmarkStall is the story that this library exists for: 2,000 handshakes
// arrive for a host whose issuance hangs at the CA, while another host's
// certificate is in memory. blocked is how many of them still wait while the
// issuance hangs, blocked-later how many do after HandshakeWait (500 ms here),
// p99-refused-ns what those who were turned away waited, and hot-ns what a
// handshake of the other host takes meanwhile (idle-hot-ns: before). The time
// of the whole (ns/op) says nothing: most of it is these waits.
func BenchmarkStall(b *testing.B) {
	hot := benchHosts(1)[0]
	store := benchCache(b, 1)
	hosts := []string{stallHost, hot}
	for _, impl := range []string{"autocert", "certmgr"} {
		b.Run("impl="+impl, func(b *testing.B) {
			for b.Loop() {
				ca := acmetest.NewMemoryServer()
				client := &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()}
				var g getter = &autocert.Manager{Prompt: autocert.AcceptTOS, Cache: store, Client: client,
					HostPolicy: autocert.HostWhitelist(hosts...)}
				if impl == "certmgr" {
					g = &certmgr.Manager{Prompt: certmgr.AcceptTOS, Client: client, Cache: store,
						Hosts: certmgr.MustAllowlist(hosts...), HandshakeWait: stallWait}
				}
				stallOnce(b, ca, g, hot)
				closeGetter(b, g)
				ca.Close()
			}
		})
	}
}

func stallOnce(b *testing.B, ca *acmetest.Server, g getter, hot string) {
	// Autocert's tls-alpn-01 would write into the cache that is shared.
	fault := ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder, Host: stallHost})
	ca.FailValidation(stallHost, "", acmetest.Problem{})
	hello := benchHello(b, hot)
	mustGet(b, g, hello, hot)
	idle := hotFor(b, g, hello, stallWait/5)

	crowd := enter(g, withName(hello, stallHost))
	busy := hotFor(b, g, hello, stallWait/2)
	blocked := crowd.inside.Load()
	<-time.After(stallWait)
	later := crowd.inside.Load()
	refused := crowd.refusedSoFar()

	b.ReportMetric(float64(blocked), "blocked")
	b.ReportMetric(float64(later), "blocked-later")
	b.ReportMetric(float64(busy), "hot-ns")
	b.ReportMetric(float64(idle), "idle-hot-ns")
	if len(refused) > 1 {
		b.ReportMetric(float64(refused[len(refused)*99/100]), "p99-refused-ns")
	}
	fault.Lift()
	crowd.all.Wait()
}

// crowd is many handshakes for one host.
type crowd struct {
	inside atomic.Int64
	all    sync.WaitGroup

	mu      sync.Mutex
	refused []time.Duration
}

// enter has stallVisitors arrive at the same time.
func enter(g getter, hello *tls.ClientHelloInfo) *crowd {
	c := new(crowd)
	c.inside.Store(stallVisitors)
	gate := make(chan struct{})
	for range stallVisitors {
		c.all.Go(func() {
			<-gate
			began := time.Now()
			_, err := g.GetCertificate(hello)
			took := time.Since(began)
			c.inside.Add(-1)
			if err != nil && took < stallWait {
				c.mu.Lock()
				c.refused = append(c.refused, took)
				c.mu.Unlock()
			}
		})
	}
	close(gate)
	return c
}

// refusedSoFar returns the times that it took to refuse, in order.
func (c *crowd) refusedSoFar() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.refused)
	return slices.Clone(c.refused)
}

// hotFor makes handshakes for d and returns how long one took on average.
func hotFor(b *testing.B, g getter, hello *tls.ClientHelloInfo, d time.Duration) time.Duration {
	began := time.Now()
	n := 0
	for ; n&127 != 0 || time.Since(began) < d; n++ {
		if _, err := g.GetCertificate(hello); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began) / time.Duration(n)
}

const (
	restartHosts = 1000
	restartRead  = 20 * time.Millisecond

	// restartWatched is after how many hosts the clock of autocert's restart
	// is stopped: it reads one after the other, and 1,000 take 20 s.
	restartWatched = 250
)

// BenchmarkRestart is a restart with a warm cache: each of 1,000 hosts has a
// handshake at once, and a cache read takes 20 ms. The time is that until the
// last one is served; autocert's is that for a quarter of them, times four.
func BenchmarkRestart(b *testing.B) {
	hosts := benchHosts(restartHosts)
	store := benchCache(b, restartHosts)
	hello := benchHello(b, "")
	for _, c := range contestants() {
		watched := restartHosts
		if c.impl == "autocert" {
			watched = restartWatched
		}
		b.Run(fmt.Sprintf("hosts=%d/impl=%s", restartHosts, c.impl), func(b *testing.B) {
			var total time.Duration
			for b.Loop() {
				slow := &slowCache{Cache: store, skip: make(chan struct{})}
				g := c.make(hosts, slow)
				total += restart(b, g, hello, hosts, watched, slow)
				closeGetter(b, g)
			}
			scale := float64(restartHosts) / float64(watched)
			b.ReportMetric(float64(total)*scale/float64(b.N), "ns/op")
		})
	}
}

// restart returns how long it takes until that many of hosts are served.
func restart(b *testing.B, g getter, hello *tls.ClientHelloInfo, hosts []string, watched int, slow *slowCache) time.Duration {
	var all sync.WaitGroup
	served := make(chan struct{}, len(hosts))
	began := time.Now()
	for _, host := range hosts {
		all.Go(func() {
			if _, err := g.GetCertificate(withName(hello, host)); err != nil {
				b.Error(err)
			}
			served <- struct{}{}
		})
	}
	for range watched {
		<-served
	}
	took := time.Since(began)
	close(slow.skip)
	all.Wait()
	return took
}

// slowCache is a cache whose reads take a while, as those of a database do,
// until skip is closed.
type slowCache struct {
	certmgr.Cache
	skip chan struct{}
}

func (c *slowCache) Get(ctx context.Context, key string) ([]byte, error) {
	select {
	case <-time.After(restartRead):
	case <-c.skip:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return c.Cache.Get(ctx, key)
}
