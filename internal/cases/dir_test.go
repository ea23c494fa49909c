package cases

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/cache"
)

// putDir is set in a child process of the test, which makes one Put into the
// directory that it names.
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

// putUnderStrace makes one Put into dir and returns the system calls that
// strace reports, in order. Without strace the test is skipped.
func putUnderStrace(t *T, dir string, args ...string) []string {
	t.Helper()
	if err := exec.Command("strace", "-qq", "-o", os.DevNull, os.Args[0], "-test.list=^$").Run(); err != nil {
		t.Skipf("strace does not work here: %v", err)
	}
	out := filepath.Join(t.TempDir(), "strace")
	args = append([]string{"-f", "-y", "-qq", "-o", out}, args...)
	cmd := exec.CommandContext(t.Context(), "strace", append(args, os.Args[0], "-test.run=^TestPutForStrace$")...)
	cmd.Env = append(os.Environ(), putDir+"="+dir)
	cmd.Run() // it may be killed
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(data), "\n")
}

// H11 (hostile review): once Put has returned, the value survives a power
// failure: the value is flushed before it is renamed, and the directory after
// that.
func TestDirPutIsDurable(t *testing.T) {
	dir := t.TempDir()
	var steps []string
	table.Run(t, "H11/value", func(t *T) {
		for _, line := range putUnderStrace(t, dir, "-e", "trace=fsync,fdatasync,rename,renameat,renameat2") {
			switch {
			case strings.Contains(line, "rename"):
				steps = append(steps, "rename")
			case strings.Contains(line, "sync(") && strings.Contains(line, "/.put-"):
				steps = append(steps, "value")
			case strings.Contains(line, "sync(") && strings.Contains(line, "<"+dir+">"):
				steps = append(steps, "directory")
			}
		}
		if len(steps) < 2 || !slices.Equal(steps[:2], []string{"value", "rename"}) {
			t.Errorf("Put flushes and renames in the order %q", steps)
		}
	})
	table.Run(t, "H11/directory", func(t *T) {
		if len(steps) == 0 {
			t.Skip("no strace")
		}
		if !slices.Equal(steps, []string{"value", "rename", "directory"}) {
			t.Errorf("Put flushes and renames in the order %q", steps)
		}
	})
}

// Tried by a hostile review, and held: a process killed during a Put leaves the
// old value or the new one.
func TestDirPutThatIsKilledLeavesAWholeValue(t *testing.T) {
	table.Run(t, "held/killed during Put", func(t *T) {
		before, after := strings.Repeat("O", 1000), strings.Repeat("N", 1000)
		for _, at := range []string{"write:signal=KILL:when=1", "write:signal=KILL:when=2", "fsync:signal=KILL:when=1",
			"rename,renameat,renameat2:signal=KILL:when=1"} {
			d := cache.Dir(t.TempDir())
			if err := d.Put(t.Context(), putKey, []byte(before)); err != nil {
				t.Fatal(err)
			}
			putUnderStrace(t, string(d), "-e", "inject="+at)
			data, err := d.Get(t.Context(), putKey)
			if err != nil || string(data) != before && string(data) != after {
				t.Errorf("killed at %s: %d bytes, %v", at, len(data), err)
			}
		}
	})
}

// H25 (hostile review): temporary files with private keys, left by killed
// processes, are removed.
func TestDirForgetsTemporaryFiles(t *testing.T) {
	table.Run(t, "H25/temporary files", func(t *T) {
		bubble(t, func(t *T, w *world) {
			d := cache.Dir(t.TempDir())
			stale := filepath.Join(string(d), ".put-123~")
			if err := os.WriteFile(stale, []byte("key"), 0o600); err != nil {
				t.Fatal(err)
			}
			year := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) // before the bubble's time
			if err := os.Chtimes(stale, year, year); err != nil {
				t.Fatal(err)
			}
			w.cache = d
			w.restart()
			w.m.Start(t.Context())
			mustObtain(t, w, host)
			w.m.Close()
			if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a temporary file of a year ago is still there: %v", err)
			}
		})
	})
}

// Tried by a hostile review, and held: an unreadable entry is an error, not a
// miss, which would lead to an order.
func TestDirThatIsBrokenIsNoMiss(t *testing.T) {
	parent := t.TempDir()
	if err := os.Mkdir(filepath.Join(parent, putKey), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(parent, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"entry is a directory": parent, "directory is a file": file} {
		table.Run(t, "held/"+name, func(t *T) {
			if _, err := certmgr.DirCache(dir).Get(t.Context(), putKey); err == nil || errors.Is(err, certmgr.ErrCacheMiss) {
				t.Errorf("Get: %v, want an error that is no miss", err)
			}
		})
	}
}
