package acmetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// listener is an HTTPS server that can be closed at once, even with open or
// stalled connections.
type listener struct {
	ln     net.Listener
	server *http.Server
	conns  sync.WaitGroup // counts connections and the accept loop
	closed atomic.Bool
}

// listenLoopback listens on a free loopback port.
func listenLoopback() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		if ln, err = net.Listen("tcp", "[::1]:0"); err != nil {
			panic("acmetest: cannot listen on loopback: " + err.Error())
		}
	}
	return ln
}

// newListener serves connections to ln with a certificate. The context is that
// of all requests.
func newListener(ctx context.Context, ln net.Listener, cert *tls.Certificate, handler http.Handler) *listener {
	l := &listener{ln: ln}
	l.server = &http.Server{
		Handler:     handler,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState:   l.connState,
		ErrorLog:    log.New(io.Discard, "", 0), // many tests drop connections on purpose
		TLSConfig:   &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"http/1.1"}},
		// No HTTP/2, so that dropping a request drops its connection.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	l.conns.Go(func() { _ = l.server.ServeTLS(ln, "", "") })
	return l
}

// connState counts connections. The accept loop, which is itself counted,
// reports StateNew, so the count cannot grow from zero during wait.
func (l *listener) connState(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		l.conns.Add(1)
		if l.closed.Load() {
			_ = conn.Close() // it may have been accepted too late for close to see it
		}
	case http.StateClosed, http.StateHijacked:
		l.conns.Done()
	}
}

// dialOnly returns a dial function that reaches a single address, so that a
// client without the right URL does not reach a real CA.
func dialOnly(address string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != address {
			return nil, fmt.Errorf("acmetest: this client reaches only the test's CA at %s, and not %s", address, addr)
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

// close closes the listener and all connections. It does not wait, and may be
// called more than once.
func (l *listener) close() {
	l.closed.Store(true)
	_ = l.ln.Close() // the server may not have it yet
	_ = l.server.Close()
}

// wait waits for the goroutines of a closed listener.
func (l *listener) wait() { l.conns.Wait() }

// listenerCertificate returns a certificate of the root for the loopback
// addresses and hosts, which are names or addresses.
func (a *authority) listenerCertificate(hosts ...string) *tls.Certificate {
	key := newKey()
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{"acmetest"}, CommonName: "acmetest listener " + distinct()},
		NotBefore:             now.AddDate(-1, 0, 0),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		SubjectKeyId:          keyID(key.Public()),
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der := mustCreate(template, a.root, key.Public(), a.rootKey)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: mustParse(der)}
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("acmetest: " + err.Error())
	}
	return key
}
