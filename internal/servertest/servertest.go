// Package servertest starts real servers for tests: each on loopback, on a free
// port, in a temporary directory, and ended with its test.
//
// Where the program of a server is missing, the test is skipped with the
// command that installs it. With NOSTALL_REQUIRE_SERVICES=1, which CI sets, it
// fails instead.
package servertest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Program returns the path of a program, from PATH or from one of the folders
// (patterns of [filepath.Glob]). Otherwise it skips the test, or fails it where
// servers are required.
func Program(t testing.TB, name, debianPackage string, folders ...string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, folder := range folders {
		found, err := filepath.Glob(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 0 {
			return found[len(found)-1]
		}
	}
	missing := name + " is not installed: apt-get install --no-install-recommends " + debianPackage
	if os.Getenv("NOSTALL_REQUIRE_SERVICES") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// FreeAddr returns an address of loopback that nobody listened on a moment ago.
// A server that finds it taken is started again on another one.
//
// The port is not one of those that systems give to outgoing connections, so
// that it is still free when a server is started again.
func FreeAddr(t testing.TB) string {
	t.Helper()
	const first, end = 10_000, 32_768
	var err error
	for range 1000 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(end-first)))
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal(err)
	return ""
}

// A Process is a program that runs for a test. It is killed at the end of the
// test, and if it has written anything the test's log has it when the test
// failed. Methods may be called concurrently.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	output *buffer
	done   chan struct{} // closed when the process has ended
	err    error         // of Wait, once done is closed
}

// Start starts a command in a process group of its own.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, cmd: cmd, output: new(buffer), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	// Children that it leaves behind must not keep Wait from returning.
	cmd.WaitDelay = time.Second
	setGroup(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", cmd.Path, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", filepath.Base(cmd.Path), p.output.tail())
		}
	})
	return p
}

// Kill kills the process and its children, as kill -9 does, and waits until it
// has ended.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// End asks the process to end, and waits until it has.
func (p *Process) End() error {
	p.signal(syscall.SIGTERM)
	<-p.done
	return p.err
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output returns the end of what the process wrote.
func (p *Process) Output() string { return p.output.tail() }

// signal sends a signal to the process group, unless the process has ended.
func (p *Process) signal(s syscall.Signal) {
	select {
	case <-p.done:
		return
	default:
	}
	p.check(s, signalGroup(p.cmd.Process.Pid, s))
}

// signalMain sends a signal to the process without its children.
func (p *Process) signalMain(s syscall.Signal) { p.check(s, p.cmd.Process.Signal(s)) }

func (p *Process) check(s syscall.Signal, err error) {
	if err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
		p.t.Errorf("signal %v to %s: %v", s, p.cmd.Path, err)
	}
}

// maxOutput is how much of a process's output is kept, in bytes.
const maxOutput = 64 << 10

// buffer keeps the end of what is written to it.
type buffer struct {
	mu   sync.Mutex // protects data
	data []byte
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = append(b.data, p...)
	if over := len(b.data) - maxOutput; over > 0 {
		b.data = bytes.Clone(b.data[over:])
	}
	return len(p), nil
}

func (b *buffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.data)
}
