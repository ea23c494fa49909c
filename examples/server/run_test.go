package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/examples/internal/process"
)

func TestMain(m *testing.M) { process.Main(m, main) }

// The program serves both ports with certificates of the CA that its flag names,
// writes nothing about visitors who came too early, and ends cleanly on SIGTERM.
func TestServerEndsCleanlyOnSIGTERM(t *testing.T) {
	ca := acmetest.NewServer()
	defer ca.Close()
	stall := ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder}) // until the ports are known
	s := process.Start(t, ca, "-http", "127.0.0.1:0", "-https", "127.0.0.1:0")
	target := acmetest.Target{HTTPAddr: s.Listening(t), TLSAddr: s.Listening(t)}
	ca.Resolve("example.com", target)
	ca.Resolve("www.example.com", target)
	stall.Lift()

	res := s.Visit(t, "example.com", "http://example.com/") // which redirects to HTTPS
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK || res.TLS == nil || string(body) != "Hello from example.com.\n" {
		t.Errorf("%s: %s, over TLS: %t, %q, error %v", res.Request.URL, res.Status, res.TLS != nil, body, err)
	}
	out, err := s.Terminate(t)
	if err != nil || strings.Contains(out, "TLS handshake error") {
		t.Errorf("after SIGTERM: error %v, output:\n%s", err, out)
	}
}

// A port that cannot be opened is an error, which ends the program before it has
// asked the CA for anything.
func TestServerEndsIfAPortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ca := acmetest.NewServer()
	defer ca.Close()
	s := process.Start(t, ca, "-http", taken.Addr().String(), "-https", "127.0.0.1:0")
	if out, err := s.Wait(); err == nil || !strings.Contains(out, "address already in use") {
		t.Errorf("error %v, output:\n%s", err, out)
	}
	if n := ca.Count(acmetest.Any); n != 0 {
		t.Errorf("%d requests to the CA", n)
	}
}
