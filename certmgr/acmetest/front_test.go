package acmetest_test

import (
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// inBothModes runs a test over loopback, and in memory within a bubble.
func inBothModes(t *testing.T, test func(*testing.T, *acmetest.Server)) {
	t.Helper()
	t.Run("listener", func(t *testing.T) {
		s := acmetest.NewServer()
		defer s.Close()
		test(t, s)
	})
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := acmetest.NewMemoryServer()
			defer s.Close()
			test(t, s)
		})
	})
}

// TestRestartAtTheSameURL: a stopped CA refuses connections, and a restarted one
// knows what it knew.
func TestRestartAtTheSameURL(t *testing.T) {
	inBothModes(t, func(t *testing.T, s *acmetest.Server) {
		c := newRawClient(t, s)
		c.register()
		_, order := c.ready("www.example.com")
		before, cert := s.URL, s.Certificate()

		s.Stop()
		s.Stop() // again
		if _, err := s.Client().Get(s.URL); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a stopped CA: %v, want connection refused", err)
		}
		s.Restart()
		s.Restart() // again
		if s.URL != before || s.Certificate() != cert {
			t.Errorf("after the restart the URL is %s, was %s; same certificate: %v", s.URL, before, s.Certificate() == cert)
		}
		c.finalize(order, csr(t, newECKey(t), x509.CertificateRequest{}, "www.example.com")) // the account and the order from before
		if n := len(s.IssuedFor("www.example.com")); n != 1 {
			t.Errorf("%d certificates, want 1\n%v", n, s)
		}
	})
}

// TestStopEndsRequests: nobody gets a reply from a stopped CA, whether the
// request waits or the reply is complete.
func TestStopEndsRequests(t *testing.T) {
	t.Run("stalled", func(t *testing.T) {
		inBothModes(t, func(t *testing.T, s *acmetest.Server) {
			fault := s.Stall(acmetest.Match{})
			done := make(chan error, 1)
			go func() {
				_, err := s.Client().Get(s.URL)
				done <- err
			}()
			if err := s.WaitInFlight(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			s.Stop()
			if err := <-done; !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the stalled request: %v", err)
			}
			fault.Lift()
			s.Restart()
			mustGet(t, s.Client(), s.URL)
		})
	})
	t.Run("by a callback, after the CA has acted", func(t *testing.T) {
		inBothModes(t, func(t *testing.T, s *acmetest.Server) {
			c := newRawClient(t, s)
			s.Edit(acmetest.Match{Endpoint: acmetest.NewAccount}, func(*acmetest.Reply) { s.Stop() })
			if a, err := c.try(post{url: c.endpoint("/new-account"), payload: `{"termsOfServiceAgreed":true}`}); err == nil {
				t.Errorf("a reply with status %d from a stopped CA", a.status)
			}
			if n := len(s.Accounts()); n != 1 {
				t.Errorf("%d accounts, want the one that was made before the CA was stopped", n)
			}
		})
	})
}

// TestStoppedServerCloses: Close also ends a stopped server, for good.
func TestStoppedServerCloses(t *testing.T) {
	inBothModes(t, func(t *testing.T, s *acmetest.Server) {
		s.Stop()
		s.Close()
		s.Stop()
		mustPanic(t, "closed before", s.Restart)
	})
	s := acmetest.NewUnstartedServer()
	defer s.Close()
	mustPanic(t, "not started", s.Stop)
	mustPanic(t, "not started", s.Restart)
}

// TestFixedAddress: a CA at an address that its user has chosen, of any kind.
func TestFixedAddress(t *testing.T) {
	for _, test := range []struct{ listen, hostname, want string }{
		{"127.0.0.1:0", "", "127.0.0.1"},
		{"127.0.0.2:0", "", "127.0.0.2"},
		{"[::1]:0", "", "::1"},
		{"0.0.0.0:0", "", "127.0.0.1"},
		{"0.0.0.0:0", "ca.test", "ca.test"},
		{"127.0.0.1:0", "192.0.2.1", "192.0.2.1"},
		{"127.0.0.1:0", "2001:db8::1", "2001:db8::1"},
	} {
		t.Run(test.listen+" "+test.hostname, func(t *testing.T) {
			ln, err := net.Listen("tcp", test.listen)
			if err != nil {
				t.Skip(err) // no IPv6, or not all of 127.0.0.0/8
			}
			s := acmetest.NewUnstartedServer()
			s.Listener, s.Hostname = ln, test.hostname
			s.Start()
			defer s.Close()

			u, err := url.Parse(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			port := netip.MustParseAddrPort(ln.Addr().String()).Port()
			if u.Hostname() != test.want || netip.MustParseAddrPort("127.0.0.1:"+u.Port()).Port() != port {
				t.Errorf("URL %s, want host %s and port %d", s.URL, test.want, port)
			}
			for _, name := range []string{test.want, "localhost", "127.0.0.1", "::1"} {
				if err := s.Certificate().VerifyHostname(name); err != nil {
					t.Error(err)
				}
			}
			if test.hostname == "" {
				mustGet(t, s.Client(), s.URL)
			}
		})
	}
}

func mustGet(t *testing.T, client *http.Client, url string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("GET %s: %s", url, resp.Status)
	}
}

func mustPanic(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got, _ := recover().(string); !strings.Contains(got, want) {
			t.Errorf("panic %q, want one with %q", got, want)
		}
	}()
	f()
}
