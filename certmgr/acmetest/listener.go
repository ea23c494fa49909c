package acmetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

// listener is an HTTPS server on a loopback port that can be closed at once,
// even with open or stalled connections.
type listener struct {
	ln     net.Listener
	server *http.Server
	cert   *x509.Certificate
	conns  sync.WaitGroup // counts connections and the accept loop

	transport *http.Transport // of client
}

func newListener(ctx context.Context, handler http.Handler) *listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		if ln, err = net.Listen("tcp", "[::1]:0"); err != nil {
			panic("acmetest: cannot listen on loopback: " + err.Error())
		}
	}
	cert := loopbackCertificate()
	l := &listener{ln: ln, cert: cert.Leaf}
	l.server = &http.Server{
		Handler:     handler,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState:   l.connState,
		ErrorLog:    log.New(io.Discard, "", 0), // many tests drop connections on purpose
		TLSConfig:   &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}},
		// No HTTP/2, so that dropping a request drops its connection.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	l.conns.Go(func() { _ = l.server.ServeTLS(ln, "", "") })
	return l
}

// connState counts connections. The accept loop, which is itself counted,
// reports StateNew, so the count cannot grow from zero during close.
func (l *listener) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		l.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		l.conns.Done()
	}
}

func (l *listener) addr() string { return l.ln.Addr().String() }

func (l *listener) client() *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(l.cert)
	l.transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	return &http.Client{Transport: l.transport}
}

// close closes the listener and all connections and waits for their goroutines.
func (l *listener) close() {
	_ = l.server.Close()
	l.transport.CloseIdleConnections()
	l.conns.Wait()
}

// loopbackCertificate returns a new self-signed certificate for the loopback
// addresses.
func loopbackCertificate() tls.Certificate {
	key := newKey()
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "acmetest listener"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der := mustCreate(template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: mustParse(der)}
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("acmetest: " + err.Error())
	}
	return key
}
