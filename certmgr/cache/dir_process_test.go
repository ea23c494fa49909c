//go:build darwin || linux

package cache

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// child is this test binary as another process that uses a directory. It is told
// what to do by lines, and answers each by one or more.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.Writer
	lines *bufio.Scanner
}

const childEnv = "NOSTALL_TEST_DIR_LOCKS"

func startChild(t *testing.T, d Dir) *child {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChildProcess$")
	cmd.Env = append(os.Environ(), childEnv+"="+string(d))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t, cmd, in, bufio.NewScanner(out)}
	t.Cleanup(func() { c.kill() })
	return c
}

func (c *child) tell(command string) { fmt.Fprintln(c.in, command) }

// answer returns the next line that is for the test, without its mark.
func (c *child) answer() (string, bool) {
	for c.lines.Scan() {
		if text, ok := strings.CutPrefix(c.lines.Text(), "> "); ok {
			return text, true
		}
	}
	return "", false
}

// do has the child do something, and returns its answer.
func (c *child) do(command string) string {
	c.t.Helper()
	c.tell(command)
	answer, ok := c.answer()
	if !ok {
		c.t.Fatalf("the child ends at %q", command)
	}
	return answer
}

func (c *child) expect(command, want string) {
	c.t.Helper()
	if got := c.do(command); got != want {
		c.t.Errorf("the child's answer to %q is %q, want %q", command, got, want)
	}
}

func (c *child) signal(s os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// TestChildProcess is the other process.
func TestChildProcess(t *testing.T) {
	d := Dir(os.Getenv(childEnv))
	if d == "" {
		t.Skip("only as a process of another test")
	}
	var lease Lease
	var stripe *os.File
	verdict := func(err error) string {
		switch {
		case err == nil:
			return "ok"
		case errors.Is(err, ErrLost):
			return "lost"
		}
		return err.Error()
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		command, argument, _ := strings.Cut(in.Text(), " ")
		var err error
		switch command {
		case "lock":
			var ttl time.Duration
			if ttl, err = time.ParseDuration(argument); err == nil {
				lease, err = d.Lock(t.Context(), "example.com", "child", ttl)
			}
		case "extend":
			err = lease.Extend(t.Context(), time.Hour)
		case "put":
			err = d.Put(Guard(t.Context(), lease), "example.com", []byte(argument))
		case "delete":
			err = d.Delete(Guard(t.Context(), lease), "example.com")
		case "unlock":
			err = lease.Unlock(t.Context())
		case "stripe":
			_, path := dirLocks(d).files("example.com")
			stripe, err = lockStripe(t.Context(), path)
		case "count":
			err = count(t, d, argument)
		}
		fmt.Println(">", verdict(err))
	}
	if err := in.Err(); err != nil {
		t.Error(err)
	}
	_ = stripe.Close() // kept open until here
}

// count increments the number in an entry some times under the lock, and says so
// each time.
func count(t *testing.T, d Dir, times string) error {
	n, err := strconv.Atoi(times)
	for range n {
		lease, err := lockWhenFree(t, d, "example.com", 1500*time.Millisecond)
		if err != nil {
			return err
		}
		data, err := d.Get(t.Context(), "example.com")
		if err != nil && !errors.Is(err, ErrMiss) {
			return err
		}
		before, _ := strconv.Atoi(string(data))
		if err := d.Put(Guard(t.Context(), lease), "example.com", []byte(strconv.Itoa(before+1))); err != nil {
			return err
		}
		fmt.Println("> counted")
		if err := lease.Unlock(t.Context()); err != nil {
			return err
		}
	}
	return err
}

// lockWhenFree polls for a lock.
func lockWhenFree(t *testing.T, d Dir, name string, ttl time.Duration) (Lease, error) {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for {
		l, err := d.Lock(t.Context(), name, "test", ttl)
		if held := (*HeldError)(nil); !errors.As(err, &held) {
			return l, err
		}
		<-ticker.C
	}
}

// Processes count in turn. One of them is killed meanwhile, wherever it is.
func TestProcessesExcludeEachOther(t *testing.T) {
	d := Dir(t.TempDir())
	const times = 25
	children := []*child{startChild(t, d), startChild(t, d), startChild(t, d), startChild(t, d)}
	for _, c := range children {
		c.tell("count " + strconv.Itoa(times))
	}
	counted, lost := 0, 0
	for i, c := range children {
		for n := 0; ; n++ {
			answer, ok := c.answer()
			if answer == "counted" {
				counted++
				if i == 0 && n == 5 {
					c.kill()
				}
				continue
			}
			// A lease that ended on a busy machine is rightly lost.
			if ok && answer != "ok" && answer != "lost" {
				t.Errorf("process %d: %s", i, answer)
			}
			if answer == "lost" {
				lost++
			}
			break
		}
	}
	data, err := d.Get(t.Context(), "example.com")
	if err != nil {
		t.Fatal(err)
	}
	// The one that was killed may have counted without saying so.
	got, _ := strconv.Atoi(string(data))
	if got != counted && got != counted+1 {
		t.Errorf("%d times was counted, and the entry says %d", counted, got)
	}
	t.Logf("%d times was counted, %d leases were lost, the entry says %d", counted, lost, got)
}

// A server that was killed and starts again does not wait for its own lease.
func TestProcessThatIsKilledLosesItsLock(t *testing.T) {
	d := Dir(t.TempDir())
	c := startChild(t, d)
	c.expect("lock 1h", "ok")
	c.expect("extend", "ok")
	_, err := d.Lock(t.Context(), "example.com", "test", time.Hour)
	if held := (*HeldError)(nil); !errors.As(err, &held) || held.Owner != "child" {
		t.Errorf("Lock while a child has it: %v", err)
	}
	c.kill()
	mustLock(t, d, "example.com", time.Hour)
}

// A process is stopped for longer than its lease, and continues.
func TestProcessThatWasStoppedCannotWrite(t *testing.T) {
	d := Dir(t.TempDir())
	c := startChild(t, d)
	c.expect("lock 1h", "ok")
	c.expect("put of the child", "ok")
	c.expect("unlock", "ok")
	c.expect("lock 1s", "ok")
	c.signal(syscall.SIGSTOP)
	next, err := lockWhenFree(t, d, "example.com", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Put(Guard(t.Context(), next), "example.com", []byte("of the successor")); err != nil {
		t.Fatal(err)
	}
	c.signal(syscall.SIGCONT)
	check := func() {
		t.Helper()
		for _, command := range []string{"put of the child", "delete", "extend", "unlock"} {
			c.expect(command, "lost")
			checkEntry(t, d, "example.com", "of the successor")
		}
	}
	check()
	if err := next.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
	check()
	c.expect("lock 1h", "ok")
	c.expect("put of the child again", "ok")
	checkEntry(t, d, "example.com", "of the child again")
}

// A process that is stopped while it changes a lock keeps others waiting until
// their contexts end, and frees all when it is killed.
func TestProcessThatIsStoppedAtAStripeFile(t *testing.T) {
	d := Dir(t.TempDir())
	c := startChild(t, d)
	c.expect("lock 1h", "ok")
	c.expect("unlock", "ok")
	c.expect("stripe", "ok")
	c.signal(syscall.SIGSTOP)
	_, path := dirLocks(d).files("example.com")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if locked, err := tryLockFile(f); locked || err != nil {
		t.Errorf("the stripe file of a stopped process: %t, %v", locked, err)
	}
	c.kill()
	mustLock(t, d, "example.com", time.Hour)
}
