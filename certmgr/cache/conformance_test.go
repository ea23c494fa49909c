package cache_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/cachetest"
)

func TestDirConforms(t *testing.T) {
	cachetest.Run(t, func(t *testing.T) cache.Cache {
		return cache.Dir(filepath.Join(t.TempDir(), "created", "by", "put"))
	})
}

func TestMemoryConforms(t *testing.T) {
	cachetest.Run(t, func(*testing.T) cache.Cache { return new(cache.Memory) })
}

// Users keep autocert's own cache, so the suite must accept it, although it
// does less than Dir: it creates the directory in the caller's time and flushes
// nothing to disk. A Put whose context has ended still writes and removes a
// temporary file some time after it returned, from a slice that belongs to the
// caller again. Where file systems do not tell upper from lower case, it mixes up keys.
func TestAutocertDirCacheConforms(t *testing.T) {
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" {
		t.Skip("the file system may not tell upper from lower case")
	}
	cachetest.Run(t, func(t *testing.T) cache.Cache {
		dir, err := os.MkdirTemp("", "autocert")
		if err != nil {
			t.Fatal(err)
		}
		// Not t.TempDir, whose removal would fail on that temporary file.
		t.Cleanup(func() {
			for os.RemoveAll(dir) != nil {
				runtime.Gosched()
			}
		})
		return autocert.DirCache(dir)
	})
}

// The keys that autocert writes.
var autocertKeys = []string{
	"example.com",
	"example.com+rsa",
	"example.com+token",
	"tok-en_1+http-01",
	"acme_account+key",
	"acme_account.key",
	"xn--bcher-kva.example",
}

// Each cache finds, replaces and deletes what the other stored, and the files
// on disk are the same.
func TestDirAndAutocertDirCacheShareADirectory(t *testing.T) {
	tests := []struct {
		name           string
		writer, reader func(dir string) cache.Cache
	}{
		{"autocert writes", newAutocert, newDir},
		{"Dir writes", newDir, newAutocert},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "certs")
			writer, reader := tt.writer(dir), tt.reader(dir)
			for _, key := range autocertKeys {
				put(t, writer, key, "written as "+key)
			}
			checkFiles(t, dir)
			for _, key := range autocertKeys {
				checkGet(t, reader, key, "written as "+key)
				put(t, reader, key, "replaced as "+key)
			}
			checkFiles(t, dir)
			for _, key := range autocertKeys {
				checkGet(t, writer, key, "replaced as "+key)
				if err := reader.Delete(t.Context(), key); err != nil {
					t.Errorf("Delete(%q): %v", key, err)
				}
				if _, err := writer.Get(t.Context(), key); err != cache.ErrMiss {
					t.Errorf("Get(%q) after Delete: %v, want ErrMiss", key, err)
				}
			}
		})
	}
}

func newDir(dir string) cache.Cache      { return cache.Dir(dir) }
func newAutocert(dir string) cache.Cache { return autocert.DirCache(dir) }

func put(t *testing.T, c cache.Cache, key, value string) {
	t.Helper()
	if err := c.Put(t.Context(), key, []byte(value)); err != nil {
		t.Fatalf("%T: Put(%q): %v", c, key, err)
	}
}

func checkGet(t *testing.T, c cache.Cache, key, want string) {
	t.Helper()
	if got, err := c.Get(t.Context(), key); string(got) != want || err != nil {
		t.Errorf("%T: Get(%q) = %q, %v, want %q", c, key, got, err, want)
	}
}

// checkFiles requires one file for each key, named after the key, and modes
// that keep private keys private. No temporary file may be left.
func checkFiles(t *testing.T, dir string) {
	t.Helper()
	checkMode(t, dir, os.ModeDir|0o700)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(autocertKeys) {
		t.Errorf("files: %v, want one for each of %q", entries, autocertKeys)
	}
	for _, key := range autocertKeys {
		checkMode(t, filepath.Join(dir, key), 0o600)
	}
}

func checkMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Error(err)
		return
	}
	if runtime.GOOS != "windows" && info.Mode() != want { // where modes do not exist
		t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
	}
}
