package certmgr_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/preflight"
)

// internet is what a preflight sees in a test: names, and what listens where.
type internet struct {
	mu      sync.Mutex
	names   map[string][]netip.Addr
	ports   map[string]func(net.Conn) // by address with port; what is not here refuses
	lookups []string
	dialled []string
	served  sync.WaitGroup
	lookup  func(ctx context.Context, host string) ([]netip.Addr, error) // nil: by names
	dialed  func(ctx context.Context, address string) (net.Conn, error)  // nil: by ports
}

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// preflight turns the preflight of w's Manager on: a.example.com leads to it at
// 192.0.2.1, and port 443 is served by its TLSConfig.
func (w *world) preflight(mode preflight.Mode) *internet {
	n := &internet{names: map[string][]netip.Addr{"a.example.com": addrs("192.0.2.1")}, ports: make(map[string]func(net.Conn))}
	w.t.Cleanup(n.served.Wait)
	w.usePreflight(n, mode)
	n.listen("192.0.2.1:443", serveTLS(w.m.TLSConfig(), nil))
	return n
}

func (w *world) usePreflight(n *internet, mode preflight.Mode) {
	w.m.Preflight, w.m.PreflightResolver, w.m.PreflightDial = mode, n, n.dial
}

// The bounds of the texts of a *preflight.Error and of a Finding's Answer, in bytes.
const (
	maxPreflightText = 512
	maxAnswerText    = 300
)

// check makes a preflight of a.example.com, and no more.
func (w *world) check() *preflight.Error {
	w.t.Helper()
	err := certmgr.CheckHost(w.t.Context(), w.m, "a.example.com")
	found, ok := errors.AsType[*preflight.Error](err)
	if !ok {
		w.t.Fatalf("got %v", err)
	}
	return found
}

func (n *internet) listen(address string, serve func(net.Conn)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[address] = serve
}

func (n *internet) name(host string, all ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[host] = addrs(all...)
}

// resolve has names resolved by f; nil means by what name has set.
func (n *internet) resolve(f func(ctx context.Context, host string) ([]netip.Addr, error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookup = f
}

// dialBy has f connect; nil means by ports.
func (n *internet) dialBy(f func(ctx context.Context, address string) (net.Conn, error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialed = f
}

// used returns how many lookups and connections there were.
func (n *internet) used() (lookups, dials int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.lookups), len(n.dialled)
}

func (n *internet) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	n.lookups = append(n.lookups, host)
	lookup, found := n.lookup, n.names[host]
	n.mu.Unlock()
	switch {
	case lookup != nil:
		return lookup(ctx, host)
	case found == nil:
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return found, nil
}

func (n *internet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dialled = append(n.dialled, address)
	dialed, serve := n.dialed, n.ports[address]
	n.mu.Unlock()
	if dialed != nil {
		return dialed(ctx, address)
	}
	if serve == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	client, server := net.Pipe()
	n.served.Go(func() {
		defer server.Close()
		serve(server)
	})
	return client, nil
}

// serveTLS makes a handshake and hands the connection to next, if there is one.
func serveTLS(config *tls.Config, next func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		server := tls.Server(conn, config)
		if server.Handshake() == nil && next != nil {
			next(server)
		}
	}
}

// serveHTTP answers one request.
func serveHTTP(handler http.Handler) func(net.Conn) {
	return func(conn net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, req)
		res := rec.Result()
		res.ContentLength = int64(rec.Body.Len())
		res.Write(conn)
	}
}

func serveText(text string) func(net.Conn) {
	return func(conn net.Conn) {
		go io.Copy(io.Discard, conn)
		io.WriteString(conn, text)
	}
}

// serveSilence accepts and says nothing.
func serveSilence(conn net.Conn) { io.Copy(io.Discard, conn) }

// blackhole never connects.
func blackhole(ctx context.Context, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
}

// otherServer is a foreign TLS server, with a certificate for names.
func otherServer(t *testing.T, protos []string, names ...string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotAfter: time.Now().Add(day), Subject: pkix.Name{CommonName: "other"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: protos}
}
