package certmgr

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nostall/nostall/internal/hosts"
)

// hookContext does something when it is asked whether it has ended.
type hookContext struct {
	context.Context
	hook func()
}

func (c hookContext) Err() error {
	c.hook()
	return c.Context.Err()
}

// Of two readings at the same time the one that began later holds.
func TestOutdatedReadingIsDropped(t *testing.T) {
	path := writeHosts(t, "a.example.com\n")
	a, err := OpenAllowlist(path)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, path, strings.Repeat("b.example.com\n", 2000))
	during := sync.OnceFunc(func() {
		replaceFile(t, path, "c.example.com\n")
		if err := a.Reload(); err != nil {
			t.Error(err)
		}
	})
	if err := a.list.reload(hookContext{t.Context(), during}, nil, ""); err != nil || !a.Contains("c.example.com") || a.Contains("b.example.com") {
		t.Errorf("an outdated reading: %v, %q", err, slices.Collect(a.All()))
	}
}

// A file that is being written again after it was found unchanged is left
// alone.
func TestFileThatChangesBeforeItIsReadIsNotRead(t *testing.T) {
	path := writeHosts(t, "a.example.com\nb.example.com\n")
	a, err := OpenAllowlist(path)
	if err != nil {
		t.Fatal(err)
	}
	atRest := hosts.LookAt(path)
	if err := os.WriteFile(path, []byte("a.example.com\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := a.list.reload(t.Context(), &atRest, ""); !errors.Is(err, hosts.ErrChanging) || !a.Contains("b.example.com") {
		t.Errorf("a file that is being written: %v, %q", err, slices.Collect(a.All()))
	}
}

// writeHosts returns the path of a file with the content.
func writeHosts(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hosts.txt")
	replaceFile(t, path, content)
	return path
}

// replaceFile writes a new file and renames it.
func replaceFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
