package acmetest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// TestCloseInBubble closes a CA that is busy in every way there is. A goroutine that stays makes synctest fail.
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

// TestCloseOverLoopback looks for goroutines of this package and of its listener and clients.
func TestCloseOverLoopback(t *testing.T) {
	s := acmetest.NewServer()
	s.Stall(acmetest.Match{Endpoint: acmetest.Directory})
	s.EndlessBody(acmetest.Match{Endpoint: acmetest.NewNonce})
	stalled := make(chan error, 1)
	go func() {
		resp, err := s.Client().Get(s.URL)
		if err == nil {
			resp.Body.Close()
		}
		stalled <- err
	}()
	endless, err := s.Client().Get(strings.TrimSuffix(s.URL, "/directory") + "/new-nonce")
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(s.URL, "https://"), "/directory"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() // never begins its TLS handshake
	for s.InFlight() < 2 {
		runtime.Gosched()
	}
	s.Close()
	if err := <-stalled; err == nil {
		t.Error("the stalled request was answered")
	}
	endless.Body.Close()
	// The client's own goroutines end a moment after their connection.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for left := goroutines(); left != ""; left = goroutines() {
		if ctx.Err() != nil {
			t.Fatalf("goroutines are left:\n%s", left)
		}
		runtime.Gosched()
	}
}

// goroutines returns the stacks of goroutines that serve or use HTTP, this test's own excluded.
func goroutines() string {
	buf := make([]byte, 1<<20)
	var left []string
	for i, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if i > 0 && (strings.Contains(stack, "net/http.") || strings.Contains(stack, "acmetest.(*")) {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

func TestCloseUnstarted(t *testing.T) {
	acmetest.NewUnstartedServer().Close()
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
