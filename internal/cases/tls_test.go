package cases

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// versions are the relevant TLS versions.
var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// B23: a server requires client certificates, which the CA does not have
// (icing/mod_md#172, letsencrypt/boulder#2078, traefik/traefik#640,
// ghostunnel/ghostunnel#743). Validation works, or the error names the cause.
func TestClientCertificatesDoNotHideValidation(t *testing.T) {
	for _, version := range versions {
		table.Run(t, "B23/"+tls.VersionName(version), func(t *T) {
			bubble(t, func(t *T, w *world) {
				config := w.m.TLSConfig()
				config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
				config.MaxVersion = version
				w.ca.Resolve("*", acmetest.Target{TLSConfig: config})
				err := w.m.Obtain(t.Context(), host)
				if err != nil && (!strings.Contains(err.Error(), "client certificate") || strings.Contains(err.Error(), "was answered")) {
					t.Errorf("the error does not speak of client certificates, or says that the CA was answered: %v", err)
				}
			})
		})
	}
}

// B24: a host is removed from the list, and a client from before resumes its
// session, which requests no certificate (golang/go#77217, Traefik's
// GHSA-gv8r-9rw9-9697). The client is refused, or needs a full handshake.
func TestARemovedHostIsNotResumed(t *testing.T) {
	for _, version := range versions {
		table.Run(t, "B24/"+tls.VersionName(version), func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.restart(host, "other.example.com")
				server := w.m.TLSConfig()
				client := &tls.Config{ServerName: host, RootCAs: w.ca.Roots(), MaxVersion: version,
					ClientSessionCache: tls.NewLRUClientSessionCache(4)}
				if _, err := visit(t, server, client); err != nil {
					t.Fatal(err)
				}
				if resumed, err := visit(t, server, client); err != nil || !resumed {
					t.Fatalf("the session is not resumed: %v", err) // the case would test nothing
				}
				w.m.Hosts.Remove(host)
				fresh := client.Clone()
				fresh.ClientSessionCache = nil
				if _, err := visit(t, server, fresh); err == nil {
					t.Error("a new client is served")
				}
				if _, err := visit(t, server, client); err == nil {
					t.Error("a client that was there before is served")
				}
			})
		})
	}
}

// visit reads a line from a server and reports whether the session was resumed.
// In TLS 1.3 the line also brings tickets, and errors about the client.
func visit(t *T, server, client *tls.Config) (resumed bool, err error) {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		conn := tls.Server(far, server)
		if conn.HandshakeContext(t.Context()) == nil {
			io.WriteString(conn, "hello\n")
		}
	}()
	defer func() { <-done }()
	defer near.Close()
	conn := tls.Client(near, client)
	if err := conn.HandshakeContext(t.Context()); err != nil {
		return false, err
	}
	if _, err := conn.Read(make([]byte, 6)); err != nil {
		return false, err
	}
	return conn.ConnectionState().DidResume, nil
}

// B27: servers over other transports leave ClientHelloInfo.Conn or its address
// nil (golang/go#61639, caddyserver/caddy#5680, quic-go/quic-go#4014).
func TestAHelloNeedsNoConnection(t *testing.T) {
	for name, conn := range map[string]net.Conn{"no Conn": nil, "no RemoteAddr": withoutAddr{}} {
		table.Run(t, "B27/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				for sni, served := range map[string]bool{host: true, "stranger.example.net": false, "": false, "bad_name.example.com": false} {
					h := hello(sni)
					h.Conn = conn
					if _, err := w.m.GetCertificate(h); (err == nil) != served {
						t.Errorf("%q is served: %v, error %v", sni, err == nil, err)
					}
				}
			})
		})
	}
}

type withoutAddr struct{ net.Conn }

func (withoutAddr) RemoteAddr() net.Addr { return nil }
func (withoutAddr) LocalAddr() net.Addr  { return nil }

// B39: a name with an underscore, which no CA certifies, is refused without any
// call (caddyserver/caddy#7000).
func TestAnUnderscoreIsRefusedAtOnce(t *testing.T) {
	table.Run(t, "B39", func(t *T) {
		bubble(t, func(t *T, w *world) {
			w.m.HostPolicy = func(_ context.Context, name string) error {
				t.Errorf("the policy is asked about %q", name)
				return nil
			}
			if _, err := w.get("my_app.example.com"); !errors.Is(err, certmgr.ErrBadServerName) {
				t.Errorf("[%s] %v, want ErrBadServerName", sentinels(err), err)
			}
			time.Sleep(time.Minute)
			if n := w.ca.Count(acmetest.Any); n > 0 {
				t.Errorf("%d requests to the CA", n)
			}
		})
	})
}
