//go:build unix

package certmgr_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// freezeEnv makes the test binary the process that is stopped.
const freezeEnv = "NOSTALL_TEST_FREEZE"

// A process that is really stopped for some seconds, while hosts of Start fail, goes
// on at its pace: no attempt begins before it is due, and nothing spins.
func TestFrozenProcessGoesOnAtItsPace(t *testing.T) {
	t.Parallel() // it waits most of the time
	if os.Getenv(freezeEnv) != "" {
		frozenProcess(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), freezeEnv+"=1")
	cmd.Stderr = os.Stderr
	alive, err := cmd.StdinPipe()
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
	lines := bufio.NewScanner(out)
	awaitFailures(t, lines, 2)
	stop(t, cmd, 2*time.Second)
	awaitFailures(t, lines, 3)
	alive.Close() // it ends and says what was wrong
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "wrong: ") {
			t.Error(lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// awaitFailures reads what the process says until so many more attempts have failed.
func awaitFailures(t *testing.T, lines *bufio.Scanner, n int) {
	t.Helper()
	for n > 0 && lines.Scan() {
		switch {
		case strings.HasPrefix(lines.Text(), "failed"):
			n--
		case strings.HasPrefix(lines.Text(), "wrong: "):
			t.Error(lines.Text())
		}
	}
	if n > 0 {
		t.Fatalf("the process ended: %v", lines.Err())
	}
}

// stop stops a process for a while.
func stop(t *testing.T, cmd *exec.Cmd, d time.Duration) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(d)
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// frozenProcess has two hosts fail once a second until its input is closed.
func frozenProcess(t *testing.T) {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	var reads, attempts atomic.Int64
	due := make(map[string]time.Time)
	m := &certmgr.Manager{
		Prompt:  certmgr.AcceptTOS,
		Hosts:   certmgr.MustAllowlist("a.example.com", "b.example.com"),
		Client:  &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
		Backoff: []time.Duration{time.Second},
		Cache:   countedReads{new(cache.Memory), &reads},
		Audit: func(_ context.Context, e audit.Event) { // one after the other
			switch e.Kind {
			case audit.IssuanceStarted:
				attempts.Add(1)
				if e.Time.Before(due[e.Host]) {
					fmt.Printf("wrong: an attempt for %s begins %v before it is due\n", e.Host, due[e.Host].Sub(e.Time))
				}
			case audit.IssuanceFailed:
				due[e.Host] = e.RetryAt
				fmt.Println("failed")
			}
		},
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, os.Stdin)
	m.Close()
	if n, most := reads.Load(), 20+10*attempts.Load(); n > most {
		fmt.Printf("wrong: %d reads of the cache for %d attempts, want at most %d\n", n, attempts.Load(), most)
	}
}

// countedReads counts the reads of a cache.
type countedReads struct {
	certmgr.Cache
	reads *atomic.Int64
}

func (c countedReads) Get(ctx context.Context, key string) ([]byte, error) {
	c.reads.Add(1)
	return c.Cache.Get(ctx, key)
}
