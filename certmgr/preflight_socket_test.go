package certmgr_test

import (
	"context"
	"crypto/tls"
	"log"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/preflight"
)

// socketWorld is a CA over a listener, and a way to the ports 80 and 443 that
// are others here.
type socketWorld struct {
	ca    *acmetest.Server
	ports map[string]string // address with a standard port -> one of the test
}

func newSocketWorld(t *testing.T) *socketWorld {
	w := &socketWorld{ca: acmetest.NewServer(), ports: make(map[string]string)}
	t.Cleanup(w.ca.Close)
	return w
}

func (w *socketWorld) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return addrs("192.0.2.1"), nil
}

func (w *socketWorld) dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, ok := w.ports[address]
	if !ok {
		to = "127.0.0.1:1" // nobody
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}

// serve runs an HTTP server on a free port.
func (w *socketWorld) serve(t *testing.T, h http.Handler, config *tls.Config) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, TLSConfig: config, ErrorLog: log.New(writerFunc(func(p []byte) (int, error) { return len(p), nil }), "", 0)}
	t.Cleanup(func() { s.Close() })
	if config != nil {
		go s.ServeTLS(l, "", "")
	} else {
		go s.Serve(l)
	}
	return l.Addr().String()
}

// obtain has a certificate issued by a new Manager, whose ports the name leads
// to or not.
func (w *socketWorld) obtain(t *testing.T, leads bool) error {
	t.Helper()
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS, Cache: new(cache.Memory), Hosts: certmgr.MustAllowlist("a.example.com"),
		Client:    &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: w.ca.Client()},
		Audit:     func(context.Context, audit.Event) {},
		Preflight: preflight.Enforce, PreflightResolver: w, PreflightDial: w.dial,
	}
	defer m.Close()
	httpAddr := w.serve(t, m.HTTPHandler(nil), nil)
	tlsAddr := w.serve(t, http.NotFoundHandler(), m.TLSConfig())
	w.ca.Resolve("a.example.com", acmetest.Target{HTTPAddr: httpAddr, TLSAddr: tlsAddr})
	clear(w.ports)
	if leads {
		w.ports["192.0.2.1:80"], w.ports["192.0.2.1:443"] = httpAddr, tlsAddr
	}
	return m.Obtain(t.Context(), "a.example.com")
}
