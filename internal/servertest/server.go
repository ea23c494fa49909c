package servertest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// How long a server may take to start or to end: as long as the slowest of them
// takes on a busy machine, several times over.
const patience = 2 * time.Minute

// maxStarts is how often a server is started whose address was taken.
const maxStarts = 5

// Spec says how a server is run.
type Spec struct {
	// Command returns the command that serves at an address.
	Command func(addr string) *exec.Cmd

	// Ready returns nil when the server at the address serves.
	Ready func(addr string) error

	// Stop is the signal at which the server's main process ends all connections
	// and the server. Zero is SIGTERM.
	Stop syscall.Signal
}

// A Server is a server that a test can stop, kill, pause and start again, at the
// same address and with the same data. It ends with its test. Methods may be
// called concurrently, but those that start and end it not with each other.
type Server struct {
	t    testing.TB
	spec Spec
	addr string

	mu      sync.Mutex // protects process
	process *Process
}

// StartServer starts a server on a free port and waits until it serves.
func StartServer(t testing.TB, spec Spec) *Server {
	t.Helper()
	if spec.Stop == 0 {
		spec.Stop = syscall.SIGTERM
	}
	s := &Server{t: t, spec: spec}
	var err error
	for range maxStarts {
		s.addr = FreeAddr(t)
		if err = s.start(); err == nil {
			// Servers that end by themselves leave nothing behind, such as shared
			// memory.
			t.Cleanup(s.Stop)
			return s
		}
	}
	t.Fatal(err)
	return nil
}

// Addr returns the server's address, as "127.0.0.1:port".
func (s *Server) Addr() string { return s.addr }

// Port returns the port of the address.
func (s *Server) Port() string {
	_, port := split(s.t, s.addr)
	return port
}

// Process returns the server's latest process.
func (s *Server) Process() *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// Start starts the server again after Stop or Kill, and waits until it serves.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// Stop has the server end all connections and itself, as when it is updated, and
// waits until it has ended.
func (s *Server) Stop() {
	p := s.Process()
	p.resume()
	p.signalMain(s.spec.Stop)
	select {
	case <-p.Done():
	case <-time.After(patience):
		s.t.Errorf("%s has not ended after %v", p.cmd.Path, patience)
	}
	p.Kill() // its children, if it left any
}

// Kill kills the server and its children, as kill -9 does.
func (s *Server) Kill() { s.Process().Kill() }

func (s *Server) start() error {
	p := Start(s.t, s.spec.Command(s.addr))
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		err := s.spec.Ready(s.addr)
		if err == nil {
			return nil
		}
		select {
		case <-p.Done():
			return fmt.Errorf("%s ended: %v, %s", p.cmd.Path, p.err, p.Output())
		case <-deadline:
			return fmt.Errorf("%s does not serve after %v: %w, %s", p.cmd.Path, patience, err, p.Output())
		case <-tick.C:
		}
	}
}

// dataDir returns a new directory that a command of runAs can use. It is short
// and outside of the test's own directory, which other users cannot enter.
func dataDir(t testing.TB, user string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "servertest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := giveTo(dir, user); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs a command that prepares a server, and fails the test if it fails.
func run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// exchange connects to an address, sends a request if there is one, and returns
// the first bytes of the answer.
func exchange(addr, request string, n int) ([]byte, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(request)); err != nil {
		return nil, err
	}
	answer := make([]byte, n)
	for read := 0; read < n; {
		more, err := conn.Read(answer[read:])
		if err != nil {
			return nil, fmt.Errorf("the answer after %q: %w", answer[:read], err)
		}
		read += more
	}
	return answer, nil
}

// as returns a command that runs as another user, if the test runs as root.
func as(t testing.TB, user, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	if err := runAs(cmd, user); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func split(t testing.TB, addr string) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}
