package cache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A directory that does not exist, such as one that was just removed, cannot be
// flushed; one that may not be read is left to the system.
func TestSyncDirReportsFailures(t *testing.T) {
	dir := t.TempDir()
	if err := syncDir(dir); err != nil {
		t.Errorf("a directory: %v", err)
	}
	if err := syncDir(filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing directory: no error")
	}
	hidden := filepath.Join(dir, "hidden")
	if err := os.Mkdir(hidden, 0o300); err != nil {
		t.Fatal(err)
	}
	if err := syncDir(hidden); err != nil {
		t.Errorf("a directory that cannot be read: %v", err)
	}
}

func TestPutCreatesTheDirectoryAndItsParents(t *testing.T) {
	parent := t.TempDir()
	d := Dir(filepath.Join(parent, "a", "b", "c"))
	if err := d.Put(t.Context(), "example.com", []byte("value")); err != nil {
		t.Fatal(err)
	}
	checkEntry(t, d, "example.com", "value")
	for _, sub := range []string{"a", "a/b", "a/b/c"} {
		info, err := os.Stat(filepath.Join(parent, sub))
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v, want mode 0700", sub, info, err)
		}
	}
	t.Chdir(parent)
	for _, d := range []Dir{"", ".", "relative", "relative/deeper"} {
		if err := d.Put(t.Context(), "example.com", []byte("value")); err != nil {
			t.Errorf("%q: %v", d, err)
		}
	}
}

// A file that is larger than any entry is an error and no miss, and is not read
// to its end.
func TestDirBoundsValues(t *testing.T) {
	d := Dir(t.TempDir())
	most := make([]byte, maxValue)
	if err := d.Put(t.Context(), "example.com", most); err != nil {
		t.Fatal(err)
	}
	if data, err := d.Get(t.Context(), "example.com"); err != nil || len(data) != maxValue {
		t.Errorf("Get of the largest value: %d bytes, %v", len(data), err)
	}
	if err := d.Put(t.Context(), "example.com", append(most, 0)); !errors.Is(err, errTooLarge) {
		t.Errorf("Put of a larger value: %v", err)
	}
	if err := os.Truncate(filepath.Join(string(d), "example.com"), maxValue+1); err != nil {
		t.Fatal(err)
	}
	endless := filepath.Join(string(d), "example.org")
	if err := os.Symlink("/dev/zero", endless); err != nil {
		t.Log(err)
	}
	for _, key := range []string{"example.com", "example.org"} {
		_, err := d.Get(t.Context(), key)
		if errors.Is(err, ErrMiss) && key == "example.org" {
			continue // no such device here
		}
		if !errors.Is(err, errTooLarge) || !strings.Contains(err.Error(), "16777216 bytes") {
			t.Errorf("Get of %s: %v", key, err)
		}
	}
}
