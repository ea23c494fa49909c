package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// Addresses in DNS (RFC 5737). Nothing is sent to them: the table of routes
// maps them to loopback.
var (
	hereAddr  = netip.MustParseAddr("192.0.2.1") // this server
	movedAddr = netip.MustParseAddr("192.0.2.7") // the machine that login.example.com moved to
)

// otherName is the name in the other machine's certificate.
const otherName = "*.hosting.example"

// world is the server's environment: the CA, DNS, and the other machine.
type world struct {
	ca        *acmetest.Server
	elsewhere *http.Server
	ways      map[string]string // addresses in DNS, with port, to listeners
}

func newWorld() (*world, error) {
	cert, err := selfSigned(otherName)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &world{ca: acmetest.NewServer(), ways: make(map[string]string)}
	w.elsewhere = &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, // an ordinary web server: h2 and http/1.1
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	go func() { _ = w.elsewhere.ServeTLS(listener, "", "") }()
	addr := listener.Addr().String()
	w.ways[netip.AddrPortFrom(movedAddr, 443).String()] = addr
	w.ca.Resolve(movedHost, acmetest.Target{TLSAddr: addr})
	return w, nil
}

// leadHere routes this server's address, and resolves the name that did not
// move, to a listener.
func (w *world) leadHere(addr string) {
	w.ways[netip.AddrPortFrom(hereAddr, 443).String()] = addr
	w.ca.Resolve(goodHost, acmetest.Target{TLSAddr: addr})
}

// LookupNetIP is the DNS; it makes world a preflight.Resolver.
func (w *world) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	switch host {
	case goodHost:
		return []netip.Addr{hereAddr}, nil
	case movedHost:
		return []netip.Addr{movedAddr}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// dial connects to the addresses in DNS.
func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, ok := w.ways[address]
	if !ok {
		to = "127.0.0.1:1" // nothing listens there
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}

func (w *world) close() {
	_ = w.elsewhere.Close()
	w.ca.Close()
}

// selfSigned returns a certificate for a name.
func selfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
