package cache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

// Keys that differ by case are kept apart, or the second one is refused where the
// file system cannot.
func TestDirKeysThatDifferByCase(t *testing.T) {
	for _, keys := range [][2]string{{"Token+http-01", "tOKEN+http-01"}, {"token+http-01", "TOKEN+http-01"}, {"TOKEN+http-01", "token+http-01"}} {
		d := Dir(t.TempDir())
		put := func(key string) error { return d.Put(t.Context(), key, []byte(key)) }
		if err := put(keys[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Get(t.Context(), keys[1]); hasUpper(keys[1]) && !errors.Is(err, ErrMiss) {
			t.Errorf("Get(%q) beside %q: %v, want a miss", keys[1], keys[0], err)
		}
		if err := d.Delete(t.Context(), keys[1]); err != nil {
			t.Errorf("Delete(%q) beside %q: %v", keys[1], keys[0], err)
		}
		checkEntry(t, d, keys[0], keys[0])
		if err := put(keys[1]); err == nil {
			checkEntry(t, d, keys[1], keys[1])
		} else {
			t.Log(err) // such a file system
		}
		checkEntry(t, d, keys[0], keys[0])
		if err := put(keys[0]); err != nil {
			t.Errorf("Put(%q) once more: %v", keys[0], err)
		}
	}
}

func TestOtherName(t *testing.T) {
	files := fstest.MapFS{"Token": {}, "example.com": {}, "EXAMPLE.com": {}}
	for key, want := range map[string]string{"Token": "", "tOKEN": "Token", "token": "Token", "example.com": "", "EXAMPLE.com": "", "missing": ""} {
		dir, err := files.Open(".")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := nameIn(dir.(fs.ReadDirFile), key); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", key, got, err, want)
		}
	}
	// Two names of one file: the directory is read, and has both.
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, filepath.Join(dir, "TOKEN")); err != nil {
		t.Skip(err)
	}
	if other, err := otherName(path); other != "" || err != nil {
		t.Errorf("a file that has two names: %q, %v", other, err)
	}
	if got := swapCase("Ab-1_c.~+Z"); got != "aB-1_C.~+z" {
		t.Error(got)
	}
}
