package cases

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/cache"
)

// needStrace skips a test where strace cannot run programs, or fails it where
// NOSTALL_REQUIRE_SERVICES is 1.
func needStrace(t *T) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "strace", "-f", "-qq", "-o", os.DevNull, os.Args[0], "-test.list=^$").CombinedOutput()
	if err == nil {
		return
	}
	why := fmt.Sprintf("strace does not work here: %v: %s; without it: apt-get install strace; in a container, ptrace must be allowed", err, bytes.TrimSpace(out))
	if os.Getenv("NOSTALL_REQUIRE_SERVICES") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// fileCalls are the system calls on files, some of which do not exist on every
// architecture.
var fileCalls = []string{"mkdirat", "openat", "write", "fsync", "close", "renameat", "unlinkat", "newfstatat", "fstat", "getdents64"}

// killAt are the arguments of strace that kill a process at its nth system call
// of this name.
func killAt(name string, nth int) []string {
	return []string{"-e", "trace=?" + name, "-e", fmt.Sprintf("inject=?%s:signal=KILL:when=%d", name, nth)}
}

// underStrace runs a test of this binary in a child process under strace. It
// returns what strace reports, and whether the child was killed.
func underStrace(t *T, test string, env []string, socket *os.File, args ...string) (lines []string, killed bool) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "strace")
	args = append([]string{"-f", "-y", "-qq", "-o", out}, args...)
	cmd := exec.CommandContext(t.Context(), "strace", append(args, os.Args[0], "-test.run=^"+test+"$")...)
	cmd.Env = append(append(os.Environ(), "GOMAXPROCS=1"), env...)
	if socket != nil {
		cmd.ExtraFiles = []*os.File{socket}
	}
	said, err := cmd.CombinedOutput()
	data, readErr := os.ReadFile(out)
	if readErr != nil {
		t.Fatal(readErr)
	}
	lines = strings.Split(strings.TrimSpace(string(data)), "\n")
	if killed = strings.Contains(string(data), "+++ killed by SIGKILL +++"); !killed && err != nil {
		t.Fatalf("the child failed: %v\n%s", err, said)
	}
	return lines, killed
}

// putDir is set in a child process, which makes one Put into the directory that
// it names.
const putDir = "NOSTALL_CASES_PUT"

const putKey = "example.com"

func TestPutForStrace(t *testing.T) {
	dir := os.Getenv(putDir)
	if dir == "" {
		t.Skip("for other tests")
	}
	if err := cache.Dir(dir).Put(t.Context(), putKey, []byte(strings.Repeat("N", 1000))); err != nil {
		t.Fatal(err)
	}
}

func putUnderStrace(t *T, dir string, args ...string) (lines []string, killed bool) {
	t.Helper()
	return underStrace(t, "TestPutForStrace", []string{putDir + "=" + dir}, nil, args...)
}

// tempFile matches what a Put writes before it renames it.
var tempFile = regexp.MustCompile(`\.put-\d+~`)
