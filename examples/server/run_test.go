package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// asServer is the environment variable that makes the test binary the server.
const asServer = "RUN_THE_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// The program as a process: it serves both ports, with certificates of the CA
// that its flag names, and ends cleanly on SIGTERM.
func TestServerServesAndEndsOnSIGTERM(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the process is told of the fake CA's root by SSL_CERT_FILE, and to end by SIGTERM")
	}
	ca := acmetest.NewServer()
	defer ca.Close()
	stall := ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder}) // until the ports are known
	p := start(t, ca, "-http", "127.0.0.1:0", "-https", "127.0.0.1:0")
	plain, secure := p.listening(t), p.listening(t)
	ca.Resolve("*.example.com", acmetest.Target{HTTPAddr: plain, TLSAddr: secure})
	ca.Resolve("example.com", acmetest.Target{HTTPAddr: plain, TLSAddr: secure})
	stall.Lift()

	res := p.visit(t, ca, "http://example.com/") // which redirects to HTTPS
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK || res.TLS == nil || string(body) != "Hello from example.com.\n" {
		t.Errorf("%s %s over TLS %t, %q, error %v", res.Request.URL, res.Status, res.TLS != nil, body, err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	out := p.rest()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, out)
	}
}

// A port that cannot be opened is an error, and the program ends.
func TestServerEndsIfAPortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ca := acmetest.NewServer()
	defer ca.Close()
	p := start(t, ca, "-http", taken.Addr().String(), "-https", "127.0.0.1:0")
	out := p.rest()
	if err := p.cmd.Wait(); err == nil || !strings.Contains(out, "address already in use") {
		t.Errorf("error %v, output:\n%s", err, out)
	}
	if n := ca.Count(acmetest.Any); n != 0 {
		t.Errorf("%d requests to the CA before the ports were open", n)
	}
}

// program is the server as a process.
type program struct {
	cmd   *exec.Cmd
	lines *bufio.Reader // what it writes to its standard error
}

// start starts the server with a cache of its own. It is killed at the end of
// the test if it still runs.
func start(t *testing.T, ca *acmetest.Server, args ...string) *program {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, ca.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	args = append(args, "-ca", ca.URL, "-cache", t.TempDir())
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asServer+"=1", "SSL_CERT_FILE="+root)
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return &program{cmd, bufio.NewReader(stderr)}
}

// listening returns the address of the next port that the server opens.
func (p *program) listening(t *testing.T) string {
	t.Helper()
	line, err := p.lines.ReadString('\n')
	_, addr, ok := strings.Cut(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("it does not say where it listens: %s%s, error %v", line, p.rest(), err)
	}
	return addr
}

// rest returns what the server writes until it ends.
func (p *program) rest() string {
	rest, _ := io.ReadAll(p.lines) // fails once the process has ended
	return string(rest)
}

// visit requests a page until the server has a certificate: while Start obtains
// it, handshakes fail at once.
func (p *program) visit(t *testing.T, ca *acmetest.Server, url string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := ca.WaitIssued(ctx, "example.com", 1); err != nil {
		t.Fatalf("%v\n%v", err, ca)
	}
	client := ca.Visitor()
	for {
		res, err := client.Get(url)
		if err == nil {
			return res
		}
		if ctx.Err() != nil {
			t.Fatalf("%v\n%v", err, ca)
		}
	}
}
