package cases

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
)

// B56: middleboxes between a server and the CA (tailscale/tailscale#9437,
// traefik/traefik#10145, go-acme/lego#843). The error soon says what is there.
func TestWhatStandsBeforeTheCAIsNamed(t *testing.T) {
	serve := func(f func(t *T, conn net.Conn)) dialer { return pipe(f) }
	fail := func(err error) dialer { return func(*T) (net.Conn, error) { return nil, err } }
	for name, tt := range map[string]struct {
		dial dialer
		want string
	}{
		"interception": {serve(func(t *T, conn net.Conn) {
			tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{selfSigned(t, "ca.example.com")}}).Handshake()
		}), "certificate"},
		"TLS 1.1": {serve(func(t *T, conn net.Conn) {
			tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{selfSigned(t, "ca.example.com")}, MaxVersion: tls.VersionTLS11}).Handshake()
		}), "version"},
		"plain HTTP": {serve(func(_ *T, conn net.Conn) {
			bufio.NewReader(conn).ReadByte()
			io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
		}), "HTTP"},
		"hang-up": {serve(func(_ *T, conn net.Conn) { conn.Read(make([]byte, 1<<14)) }), "EOF"},
		"refused": {fail(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}), "refused"},
		"no DNS":  {fail(&net.DNSError{Err: "no such host", Name: "ca.example.com", IsNotFound: true}), "ca.example.com: no such host"},
	} {
		table.Run(t, "B56/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return tt.dial(t) }}
				defer transport.CloseIdleConnections()
				w.m.Client = &acme.Client{DirectoryURL: "https://ca.example.com/directory", HTTPClient: &http.Client{Transport: transport}}
				begin := time.Now()
				if _, err := w.get(host); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("the error does not say %q: %v", tt.want, err)
				}
				if d := time.Since(begin); d > 5*time.Second {
					t.Errorf("told after %v", d)
				}
			})
		})
	}
}

// A dialer makes a Manager's connections to the CA.
type dialer func(t *T) (net.Conn, error)

// pipe runs f at the other end of each connection, which ends with f.
func pipe(f func(t *T, conn net.Conn)) dialer {
	return func(t *T) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			f(t, server)
		}()
		return client, nil
	}
}

// selfSigned is a certificate from no trusted root.
func selfSigned(t *T, name string) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	return tls.Certificate{Certificate: [][]byte{sign(t, template, template, key.Public(), key)}, PrivateKey: key}
}

// B56: HTTPS_PROXY is unreachable (vancluever/terraform-provider-acme-old#37).
// The proxy is used, and the error names it. net/http reads the variable once,
// so this runs in its own process.
func TestADeadProxyIsNamed(t *testing.T) {
	const proxy = "http://127.0.0.1:0" // nobody can listen there
	if os.Getenv("HTTPS_PROXY") != proxy {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "HTTPS_PROXY="+proxy, "https_proxy="+proxy, "NO_PROXY=", "no_proxy=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	table.Run(t, "B56/dead proxy", func(t *T) {
		bubble(t, func(t *T, w *world) {
			w.m.Client = &acme.Client{DirectoryURL: "https://ca.example.com/directory"}
			if _, err := w.get(host); err == nil || !strings.Contains(err.Error(), "proxyconnect") {
				t.Errorf("the error does not speak of the proxy: %v", err)
			}
		})
	})
}
