package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// visitTimeout is how long a visitor waits for a handshake.
const visitTimeout = 30 * time.Second

// visit makes a handshake for a host, and returns the serial number of the
// certificate, which must be valid. The address is the client's.
func visit(ctx context.Context, addr net.Addr, host string, roots *x509.CertPool) (serial string, client net.Addr, err error) {
	ctx, cancel := context.WithTimeout(ctx, visitTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return "", nil, err
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{ServerName: host, RootCAs: roots})
	if err := conn.HandshakeContext(ctx); err != nil {
		return "", raw.LocalAddr(), err
	}
	leaf := conn.ConnectionState().PeerCertificates[0]
	return serialOf(leaf), raw.LocalAddr(), nil
}

// crowd visits served hosts through the load balancer until it is stopped. None
// of its handshakes may fail, except with a machine that is taken out of service
// at that moment: then it tries again, as browsers do.
type crowd struct {
	balancer *balancer
	roots    *x509.CertPool
	hosts    []string
	stop     context.CancelFunc
	done     sync.WaitGroup

	mu     sync.Mutex
	served int
	failed []string
}

// visitEvery is the time between the visits of one of the crowd.
const visitEvery = 30 * time.Millisecond

// startCrowd begins to visit hosts.
func startCrowd(t *testing.T, b *balancer, roots *x509.CertPool, hosts []string) *crowd {
	c := &crowd{balancer: b, roots: roots, hosts: hosts}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	for range 3 {
		c.done.Go(func() { c.run(ctx) })
	}
	t.Cleanup(func() { c.end() })
	return c
}

func (c *crowd) run(ctx context.Context) {
	tick := time.NewTicker(visitEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		host := c.hosts[rand.IntN(len(c.hosts))]
		_, client, err := visit(ctx, c.balancer.addr(), host, c.roots)
		if err == nil {
			c.count("")
		} else if ctx.Err() == nil && (client == nil || !c.balancer.wasDown(client)) {
			c.count(fmt.Sprintf("%s: %s: %v", time.Now().Format("15:04:05.000"), host, err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (c *crowd) count(failure string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if failure == "" {
		c.served++
	} else {
		c.failed = append(c.failed, failure)
	}
}

// end stops the visits, and returns how many were served and which failed.
func (c *crowd) end() (served int, failed []string) {
	c.stop()
	c.done.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served, c.failed
}
