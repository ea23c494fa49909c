package soak

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// visitors make handshakes for the hosts of a server and look at what is served.
type visitors struct {
	config serverConfig
	roots  *x509.CertPool // of the CA's certificates

	mu      sync.Mutex
	served  int
	refused int      // by an alert, or because the server is down
	wrong   []string // why a certificate must not have been served
}

// visitEvery is the time between two visits of a visitor.
const visitEvery = 100 * time.Millisecond

func (v *visitors) run(ctx context.Context) {
	for ctx.Err() == nil {
		v.visit(ctx, v.config.Hosts[rand.IntN(len(v.config.Hosts))])
		sleep(ctx, visitEvery)
	}
}

func (v *visitors) visit(ctx context.Context, host string) {
	leaf, err := handshake(ctx, v.config.TLS, &tls.Config{ServerName: host})
	if err == nil {
		_, bad := leaf[0].Verify(x509.VerifyOptions{DNSName: host, Roots: v.roots, Intermediates: poolOf(leaf[1:])})
		if bad != nil {
			err = fmt.Errorf("%s: %w", host, bad)
		}
		v.note(bad == nil, err)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refused++
}

func (v *visitors) note(ok bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if ok {
		v.served++
	} else if len(v.wrong) < 20 {
		v.wrong = append(v.wrong, err.Error())
	}
}

func poolOf(certs []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool
}

// clientTimeout is how long a client waits.
const clientTimeout = 12 * time.Second

// handshake makes a handshake and returns the server's certificates.
func handshake(ctx context.Context, address string, config *tls.Config) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	conn, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	config.InsecureSkipVerify = true // the caller verifies
	client := tls.Client(conn, config)
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return client.ConnectionState().PeerCertificates, nil
}

// dial connects so that no port stays in use after Close: a soak makes more
// connections than there are ports.
func dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn, conn.(*net.TCPConn).SetLinger(0)
}
