package acmetest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// TestCloseInBubble closes a CA that is busy in every possible way. A leaked
// goroutine makes synctest fail.
func TestCloseInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		c := newRawClient(t, s)
		c.register()
		_, stuck := c.ready("stuck.example.com")
		s.StuckProcessing("stuck.example.com")
		c.finalize(stuck, csr(t, newECKey(t), x509.CertificateRequest{}, "stuck.example.com"))

		hang := make(chan struct{}) // in the bubble, never closed
		s.Resolve("http.example.com", acmetest.Target{HTTPHandler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		})})
		s.Resolve("tls.example.com", acmetest.Target{TLSConfig: &tls.Config{
			NextProtos: []string{"acme-tls/1"},
			GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				<-hello.Context().Done()
				return nil, hello.Context().Err()
			},
		}})
		for host, typ := range map[string]string{"http.example.com": "http-01", "tls.example.com": "tls-alpn-01"} {
			_, o := c.order(host)
			c.do(post{url: c.get(o.authorizations()[0]).challenge(typ), payload: "{}"})
		}

		s.Stall(acmetest.Match{Endpoint: acmetest.Directory})
		s.EndlessBody(acmetest.Match{Endpoint: acmetest.NewNonce})
		stalled := make(chan error, 1)
		go func() {
			_, err := s.Client().Get(s.URL)
			stalled <- err
		}()
		endless, err := s.Client().Get(c.endpoint("/new-nonce"))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s.InFlight() != 2 {
			t.Errorf("%d requests in flight, want 2\n%v", s.InFlight(), s)
		}

		begin := time.Now()
		s.Close()
		if took := time.Since(begin); took != 0 {
			t.Errorf("Close took %v", took)
		}
		if err := <-stalled; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the stalled request: %v", err)
		}
		if _, err := io.Copy(io.Discard, endless.Body); err == nil {
			t.Error("the endless body ended well")
		}
		if _, err := s.Client().Get(s.URL); err == nil {
			t.Error("a closed CA answers")
		}
		s.Close() // again
	})
}

// TestCloseWithHalfARequest: a client that never finishes its request body.
func TestCloseWithHalfARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		body, writer := io.Pipe()
		result := make(chan error, 1)
		go func() {
			_, err := s.Client().Post(strings.TrimSuffix(s.URL, "/directory")+"/new-account", "application/jose+json", body)
			result <- err
		}()
		if _, err := io.WriteString(writer, "{"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.Close()
		if err := <-result; err == nil {
			t.Error("half a request was answered")
		}
		if _, err := io.WriteString(writer, "}"); err == nil {
			t.Error("the other half was read")
		}
	})
}

// busy is a CA over loopback, and what a test leaves open.
type busy struct {
	*rawClient
	open []io.Closer
}

// dial connects to the CA and sends some bytes, within TLS or not.
func (b *busy) dial(overTLS bool, text string) {
	b.t.Helper()
	addr := strings.TrimSuffix(strings.TrimPrefix(b.server.URL, "https://"), "/directory")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.open = append(b.open, conn)
	if overTLS {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	if _, err := io.WriteString(conn, text); err != nil {
		b.t.Fatal(err)
	}
}

// request fetches the directory in a goroutine and reads the reply.
func (b *busy) request() {
	b.t.Helper()
	go func() {
		resp, err := b.server.Client().Get(b.server.URL)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}()
	b.awaitRequest()
}

// awaitRequest waits until the CA handles a request.
func (b *busy) awaitRequest() {
	b.t.Helper()
	if err := b.server.WaitInFlight(b.t.Context(), 1); err != nil {
		b.t.Fatal(err)
	}
}

// validateWith begins a validation by a host that answers with only a text. It
// returns when the CA has connected.
func (b *busy) validateWith(typ, answer string, target func(addr string) acmetest.Target) {
	b.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	b.open = append(b.open, ln)
	b.server.Resolve("*", target(ln.Addr().String()))
	_, o := b.order("a.example.com")
	if a := b.do(post{url: b.get(o.authorizations()[0]).challenge(typ), payload: "{}"}); a.status != 200 {
		b.t.Fatalf("challenge: %d %s", a.status, a.body)
	}
	conn, err := ln.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	b.open = append(b.open, conn)
	if _, err := io.WriteString(conn, answer); err != nil {
		b.t.Fatal(err)
	}
}

func httpAt(addr string) acmetest.Target { return acmetest.Target{HTTPAddr: addr} }

// TestCloseOverLoopback closes a CA with unresponsive clients and hosts, and
// looks for goroutines of the CA and its clients.
func TestCloseOverLoopback(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(b *busy)
	}{
		{"idle connections", func(b *busy) { b.order("a.example.com") }},
		{"idle connections of another client", func(b *busy) {
			transport := b.server.Client().Transport.(*http.Transport).Clone()
			b.open = append(b.open, closerFunc(transport.CloseIdleConnections))
			resp, err := (&http.Client{Transport: transport}).Get(b.server.URL)
			if err != nil {
				b.t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}},
		{"no TLS handshake", func(b *busy) { b.dial(false, "") }},
		{"half a TLS handshake", func(b *busy) { b.dial(false, "\x16\x03\x01\x02\x00\x01") }},
		{"no request", func(b *busy) { b.dial(true, "") }},
		{"half a request", func(b *busy) { b.dial(true, "POST /new-account HTTP/1.1\r\nHost: ca.exam") }},
		{"half a body", func(b *busy) {
			b.dial(true, "POST /new-account HTTP/1.1\r\nHost: ca.example\r\nContent-Length: 10\r\n\r\n{")
			b.awaitRequest()
		}},
		{"half a chunked body", func(b *busy) {
			b.dial(true, "POST /new-account HTTP/1.1\r\nHost: ca.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{")
			b.awaitRequest()
		}},
		{"a stalled reply", func(b *busy) {
			b.server.Stall(acmetest.Match{Endpoint: acmetest.Directory})
			b.request()
		}},
		{"an endless body that is read", func(b *busy) {
			b.server.EndlessBody(acmetest.Match{Endpoint: acmetest.Directory})
			b.request()
		}},
		{"an endless body that is not read", func(b *busy) {
			b.server.EndlessBody(acmetest.Match{Endpoint: acmetest.Directory})
			b.dial(true, "GET /directory HTTP/1.1\r\nHost: ca.example\r\n\r\n")
			b.awaitRequest()
		}},
		{"a certificate that is stuck", func(b *busy) {
			b.server.StuckProcessing("a.example.com")
			_, o := b.ready("a.example.com")
			b.finalize(o, csr(b.t, newECKey(b.t), x509.CertificateRequest{}, "a.example.com"))
		}},
		{"tls-alpn-01 without an answer", func(b *busy) {
			b.validateWith("tls-alpn-01", "", func(addr string) acmetest.Target { return acmetest.Target{TLSAddr: addr} })
		}},
		{"tls-alpn-01 with half an answer", func(b *busy) {
			b.validateWith("tls-alpn-01", "\x16\x03\x03\x02\x00", func(addr string) acmetest.Target { return acmetest.Target{TLSAddr: addr} })
		}},
		{"http-01 without an answer", func(b *busy) { b.validateWith("http-01", "", httpAt) }},
		{"http-01 with half a header", func(b *busy) { b.validateWith("http-01", "HTTP/1.1 200 OK\r\nContent-", httpAt) }},
		{"http-01 with half a body", func(b *busy) {
			b.validateWith("http-01", "HTTP/1.1 200 OK\r\nContent-Length: 87\r\n\r\na", httpAt)
		}},
		{"http-01 redirected to a TLS server that does not answer", func(b *busy) {
			redirect := httptest.NewServer(http.RedirectHandler("https://www.example.com/", http.StatusFound))
			b.open = append(b.open, closerFunc(redirect.Close))
			addr := redirect.Listener.Addr().String()
			b.validateWith("http-01", "", func(tlsAddr string) acmetest.Target {
				return acmetest.Target{HTTPAddr: addr, TLSAddr: tlsAddr}
			})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := acmetest.NewServer()
			b := &busy{rawClient: newRawClient(t, s)}
			b.register()
			test.make(b)
			closeInTime(t, s)
			left := goroutinesLeft(t) // while the other side is open, so it was the CA that ended them
			for _, c := range b.open {
				c.Close()
			}
			if left != "" {
				t.Errorf("goroutines are left:\n%s", left)
			}
		})
	}
}

type closerFunc func()

func (f closerFunc) Close() error { f(); return nil }

// closeInTime fails the test if Close hangs.
func closeInTime(t *testing.T, s *acmetest.Server) {
	t.Helper()
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(30 * time.Second):
		t.Fatalf("Close does not return:\n%s", goroutines())
	}
}

// goroutinesLeft waits until there are none: those of HTTP clients end a moment
// after their connection.
func goroutinesLeft(t *testing.T) string {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		left := goroutines()
		if left == "" || ctx.Err() != nil {
			return left
		}
		runtime.Gosched()
	}
}

// goroutines returns the stacks of goroutines that serve or use HTTP or TLS or
// belong to a CA, excluding the test itself and its own servers.
func goroutines() string {
	buf := make([]byte, 1<<20)
	var left []string
	for i, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		busy := strings.Contains(stack, "net/http.") || strings.Contains(stack, "crypto/tls.") || strings.Contains(stack, "acmetest.")
		if i > 0 && busy && !strings.Contains(stack, "httptest.(*Server)") && !strings.Contains(stack, "testing.tRunner") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

func TestUnstartedServerCanBeClosed(t *testing.T) {
	s := acmetest.NewUnstartedServer()
	s.Close()
	s.Close()
	if err := visit(s.Client(), s.URL); err == nil {
		t.Error("the client reaches something")
	}
}

func TestMemoryClientReachesNothingElse(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	other := acmetest.NewMemoryServer()
	defer other.Close()
	if _, err := s.Client().Get(other.URL); err == nil {
		t.Error("the client of one CA reached another")
	}
}
