// Package process runs an example that is a server as a process of its own, for
// tests: on free ports of loopback, with a fake CA, until SIGTERM.
package process

import (
	"bufio"
	"context"
	"io"
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

// asServer is the environment variable that makes a test binary the program.
const asServer = "RUN_THE_SERVER"

// Main is the body of TestMain in a program's tests: Start runs the test binary
// again, which is then the program.
func Main(m *testing.M, program func()) {
	if os.Getenv(asServer) != "" {
		program()
		return
	}
	os.Exit(m.Run())
}

// Server is the running program.
type Server struct {
	Dir string // its working directory

	ca    *acmetest.Server
	cmd   *exec.Cmd
	lines *bufio.Reader // what it writes to its standard error
}

// Start starts the program in an empty directory, where it trusts ca. It is
// killed at the end of the test if it still runs.
func Start(t *testing.T, ca *acmetest.Server, args ...string) *Server {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has both: SSL_CERT_FILE, which tells the program of the CA's root, and SIGTERM")
	}
	s := &Server{Dir: t.TempDir(), ca: ca}
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, ca.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s.cmd = exec.CommandContext(ctx, os.Args[0], append(args, "-ca", ca.URL)...)
	s.cmd.Dir = s.Dir
	s.cmd.Env = append(os.Environ(), asServer+"=1", "SSL_CERT_FILE="+root)
	stderr, err := s.cmd.StderrPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.lines = bufio.NewReader(stderr)
	return s
}

// Listening returns the address of the next port that the program opens. Other
// lines before it are skipped.
func (s *Server) Listening(t *testing.T) string {
	t.Helper()
	var before strings.Builder
	for {
		line, err := s.lines.ReadString('\n')
		if _, addr, ok := strings.Cut(line, "listening on "); ok {
			return strings.TrimSpace(addr)
		}
		before.WriteString(line)
		if err != nil {
			t.Fatalf("it does not say where it listens:\n%s", &before)
		}
	}
}

// Visit requests a page of host until there is a certificate. While Start
// obtains it, handshakes fail at once.
func (s *Server) Visit(t *testing.T, host, url string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.ca.WaitIssued(ctx, host, 1); err != nil {
		t.Fatalf("%v\n%v", err, s.ca)
	}
	client := s.ca.Visitor()
	for {
		res, err := client.Get(url)
		if err == nil {
			return res
		}
		if ctx.Err() != nil {
			t.Fatalf("%v\n%v", err, s.ca)
		}
	}
}

// Terminate sends SIGTERM and waits for the end.
func (s *Server) Terminate(t *testing.T) (output string, err error) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return s.Wait()
}

// Wait waits for the end and returns what else the program has written.
func (s *Server) Wait() (output string, err error) {
	rest, _ := io.ReadAll(s.lines) // ends with the process
	return string(rest), s.cmd.Wait()
}
