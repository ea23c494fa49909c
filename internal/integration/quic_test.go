package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/cases"
)

// table has the cases of this package that are known to fail.
var table = cases.For("integration")

// B54: servers of HTTP/3 take their tls.Config from a Manager, each in its way
// (quic-go/quic-go#763, #2514, caddyserver/certmagic#230). The first handshake
// issues a certificate, and hosts that must not be served are refused.
func TestHTTP3ServersTakeAnyConfig(t *testing.T) {
	for name, config := range map[string]func(m *certmgr.Manager) *tls.Config{
		"TLSConfig":          func(m *certmgr.Manager) *tls.Config { return m.TLSConfig() },
		"ConfigureTLSConfig": func(m *certmgr.Manager) *tls.Config { return http3.ConfigureTLSConfig(m.TLSConfig()) },
		"GetCertificate":     func(m *certmgr.Manager) *tls.Config { return &tls.Config{GetCertificate: m.GetCertificate} },
	} {
		table.Run(t, "B54/"+name, func(t *cases.T) {
			m, ca := newHTTP3Manager(t)
			addr := serveHTTP3(t, config(m))
			if _, err := visitHTTP3(t, addr, www, &tls.Config{RootCAs: ca.Roots()}); err != nil {
				t.Fatalf("the first visitor gets %v", err)
			}
			for _, host := range []string{"bad.example.com", "other.example.com"} {
				if _, err := visitHTTP3(t, addr, host, &tls.Config{RootCAs: ca.Roots()}); !refused(err) {
					t.Errorf("%s: %v, want an alert", host, err)
				}
			}
			m.Hosts.Remove(www)
			if _, err := visitHTTP3(t, addr, www, &tls.Config{RootCAs: ca.Roots()}); !refused(err) {
				t.Errorf("after the host was removed: %v, want an alert", err)
			}
		})
	}
}

// B24 with QUIC: a resumed session requests no certificate, and its client may
// send the request before the handshake is over (0-RTT).
func TestARemovedHostIsNotResumedByHTTP3(t *testing.T) {
	for name, config := range map[string]func(m *certmgr.Manager) *tls.Config{
		"TLSConfig":          func(m *certmgr.Manager) *tls.Config { return m.TLSConfig() },
		"ConfigureTLSConfig": func(m *certmgr.Manager) *tls.Config { return http3.ConfigureTLSConfig(m.TLSConfig()) },
		"Clone":              func(m *certmgr.Manager) *tls.Config { return m.TLSConfig().Clone() },
	} {
		for _, method := range []string{http.MethodGet, http3.MethodGet0RTT} {
			table.Run(t, "B24/HTTP/3/"+name+"/"+method, func(t *cases.T) {
				m, ca := newHTTP3Manager(t)
				addr := serveHTTP3(t, config(m))
				client := &tls.Config{RootCAs: ca.Roots(), ClientSessionCache: tls.NewLRUClientSessionCache(4)}
				resumed, early := false, false
				for visits := 0; !resumed || !early && method == http3.MethodGet0RTT; visits++ { // a ticket may come after the page
					var err error
					if resumed, early, err = requestHTTP3(t, addr, www, client, method); err != nil || visits == 100 {
						t.Fatalf("visit %d: resumed %v, 0-RTT %v, error %v", visits, resumed, early, err)
					}
				}
				m.Hosts.Remove(www)
				if resumed, early, err := requestHTTP3(t, addr, www, client, method); !refused(err) {
					t.Errorf("a client that was there before: resumed %v, 0-RTT %v, error %v; want an alert", resumed, early, err)
				}
				if n := m.Metrics().Handshakes[audit.ResultNotAllowed]; n != 1 {
					t.Errorf("%d refused handshakes are counted", n)
				}
			})
		}
	}
}

const www = "www.example.com"

// newHTTP3Manager returns a Manager that allows www.example.com, which gets a
// certificate, and bad.example.com, which does not.
func newHTTP3Manager(t *cases.T) (*certmgr.Manager, *acmetest.Server) {
	ca := acmetest.NewMemoryServer()
	t.Cleanup(ca.Close)
	m := &certmgr.Manager{
		Prompt:        certmgr.AcceptTOS,
		Cache:         new(cache.Memory),
		Hosts:         certmgr.MustAllowlist(www, "bad.example.com"),
		Client:        &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
		Audit:         new(record).hook,
		HandshakeWait: timeout,
	}
	t.Cleanup(func() { m.Close() })
	ca.Resolve("*", acmetest.Target{TLSConfig: m.TLSConfig()})
	ca.FailValidation("bad.example.com", "", acmetest.Problem{Type: "dns"})
	return m, ca
}

// serveHTTP3 runs a server and returns its address.
func serveHTTP3(t *cases.T, config *tls.Config) net.Addr {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http3.Server{TLSConfig: config, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(conn)
	}()
	t.Cleanup(func() {
		server.Close()
		conn.Close()
		<-done
	})
	return conn.LocalAddr()
}

// visitHTTP3 requests a page of host from the server at addr over a new
// connection, and reports whether that resumed a session.
func visitHTTP3(t *cases.T, addr net.Addr, host string, client *tls.Config) (resumed bool, err error) {
	t.Helper()
	resumed, _, err = requestHTTP3(t, addr, host, client, http.MethodGet)
	return resumed, err
}

// requestHTTP3 is visitHTTP3 with a method, and reports whether the server
// accepted the request before the handshake was over.
func requestHTTP3(t *cases.T, addr net.Addr, host string, client *tls.Config, method string) (resumed, early bool, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var conn *quic.Conn
	transport := &http3.Transport{
		TLSClientConfig: client,
		QUICConfig:      &quic.Config{HandshakeIdleTimeout: timeout},
		Dial: func(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (_ *quic.Conn, err error) {
			if conn, err = quic.DialAddrEarly(ctx, addr.String(), tc, qc); err == nil {
				context.AfterFunc(conn.Context(), cancel) // a request would wait for a handshake that has failed
			}
			return conn, err
		},
	}
	defer transport.Close()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+host+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		if conn != nil {
			err = errors.Join(err, context.Cause(conn.Context()))
		}
		return false, false, err
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "HTTP/3.0" {
		t.Errorf("the page is %q, error %v", body, err)
	}
	state := conn.ConnectionState()
	return state.TLS.DidResume, state.Used0RTT, nil
}

// refused reports whether err is the alert of a server that has no certificate.
func refused(err error) bool {
	transport, ok := errors.AsType[*quic.TransportError](err)
	return ok && transport.ErrorCode.IsCryptoError()
}
