package cases

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/cache"
)

// H11 (hostile review): once Put has returned, the value survives a power
// failure: the value is flushed before it is renamed, and the directory after
// that.
func TestDirPutIsDurable(t *testing.T) {
	dir := t.TempDir()
	var steps []string
	table.Run(t, "H11/value", func(t *T) {
		needStrace(t)
		lines, _ := putUnderStrace(t, dir, "-e", "trace=fsync,fdatasync,rename,renameat,renameat2")
		for _, line := range lines {
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
