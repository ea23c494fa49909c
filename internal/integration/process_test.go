package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// process is a server that runs until its test ends.
type process struct {
	name   string
	out    *log
	alive  io.Closer     // closing it ends the process
	exited chan struct{} // closed once err is set
	err    error
}

// log collects the output of a process.
type log struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	wrote chan struct{} // closed by the next Write; nil if there is no waiter
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wrote != nil {
		close(l.wrote)
		l.wrote = nil
	}
	return l.buf.Write(p)
}

// holds reports whether text was written. If it was not, the channel is closed
// by the next Write.
func (l *log) holds(text string) (bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(l.buf.Bytes(), []byte(text)) {
		return true, nil
	}
	if l.wrote == nil {
		l.wrote = make(chan struct{})
	}
	return false, l.wrote
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// superviseEnv makes the test binary a supervisor.
const superviseEnv = "NOSTALL_INTEGRATION_SUPERVISE"

// supervise runs a server until its own standard input is closed. That also
// happens when the test binary dies before it can clean up, so that no server
// survives a panic, a time-out or a signal.
func supervise(program string, args []string) (code int) {
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cmd.Process.Kill() // fails if it has already exited, which is fine
	}()
	if err := cmd.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// start runs a program. When the test ends, it is killed and waited for; if the
// test failed, its output is logged.
func start(t testing.TB, name string, env []string, args ...string) *process {
	t.Helper()
	program := servers.path(t, name)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := new(log)
	// The context of the test ends before its cleanups, which still need the
	// server, so the context must not end the process.
	cmd := exec.Command(self, append([]string{program}, args...)...)
	cmd.Env = append(append(os.Environ(), superviseEnv+"=1"), env...)
	cmd.Stdout, cmd.Stderr = out, out
	alive, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{name: name, out: out, alive: alive, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, out)
		}
	})
	return p
}

func (p *process) stop() {
	p.alive.Close()
	<-p.exited
}

// awaitOutput waits until the process has written text or exited, or ctx is
// done.
func (p *process) awaitOutput(ctx context.Context, text string) {
	for {
		found, wrote := p.out.holds(text)
		if found {
			return
		}
		select {
		case <-wrote:
		case <-p.exited:
			return
		case <-ctx.Done():
			return
		}
	}
}

// errExited means that a server exited before it was ready, for example because
// its port was taken meanwhile.
var errExited = errors.New("ended before it was ready")

// readyTimeout bounds the start of one process.
const readyTimeout = 15 * time.Second

// await polls check until it succeeds.
func (p *process) await(ctx context.Context, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-p.exited:
			return fmt.Errorf("%s %w: %w", p.name, errExited, p.err)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.name, err)
		}
	}
}

// freePorts returns n TCP ports of 127.0.0.1 without listeners.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l := listen(t)
		defer l.Close() // only at the end, so that no port is returned twice
		ports = append(ports, port(l))
	}
	return ports
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
