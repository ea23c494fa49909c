package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// write makes a file of an age in a directory.
func write(t *testing.T, dir, name string, age time.Duration) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	setAge(t, path, age)
}

func setAge(t *testing.T, path string, age time.Duration) {
	t.Helper()
	at := time.Now().Add(-age)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// namesIn returns the names in a directory, sorted.
func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Only regular files that are named as those of Put go, once they are old.
func TestCleanRemovesOldTemporaryFilesOnly(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".put-1~", ".put-4294967295~"} {
		write(t, dir, name, tempAge+time.Minute)
	}
	kept := []string{
		"example.com", "example.com+rsa", "acme_account+key", // entries
		"example.com123456789", // autocert's temporary file, or an entry
		".put-", ".put-~", ".put-x~", ".put-1", ".put-1~~", "put-1~", "a.put-1~", ".put-1~.bak", ".put--1~",
	}
	for _, name := range kept {
		write(t, dir, name, tempAge+time.Minute)
	}
	write(t, dir, ".put-2~", tempAge-time.Minute)
	write(t, dir, ".put-3~", -48*time.Hour) // of a machine whose clock is ahead
	if err := os.Mkdir(filepath.Join(dir, ".put-5~"), 0o700); err != nil {
		t.Fatal(err)
	}
	setAge(t, filepath.Join(dir, ".put-5~"), 48*time.Hour)

	if err := Dir(dir).Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := append(kept, ".put-2~", ".put-3~", ".put-5~")
	slices.Sort(want)
	if got := namesIn(t, dir); !slices.Equal(got, want) {
		t.Errorf("the directory holds %q, want %q", got, want)
	}
}

// A link that is named as a temporary file is not followed, and stays.
func TestCleanFollowsNoLink(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	write(t, other, "secret", 48*time.Hour)
	write(t, other, ".put-1~", 48*time.Hour)
	for name, target := range map[string]string{".put-6~": filepath.Join(other, "secret"), ".put-7~": other, ".put-8~": "gone"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	if err := Dir(dir).Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := namesIn(t, dir); len(got) != 3 {
		t.Errorf("the directory holds %q, want all three links", got)
	}
	if got := namesIn(t, other); len(got) != 2 {
		t.Errorf("the other directory holds %q, want both files", got)
	}
	link := filepath.Join(t.TempDir(), "certs") // the directory itself may be one
	if err := os.Symlink(other, link); err != nil {
		t.Fatal(err)
	}
	if err := Dir(link).Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := namesIn(t, other); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("the linked directory holds %q, want the secret alone", got)
	}
}

func TestCleanOfALargeDirectory(t *testing.T) {
	dir := t.TempDir()
	for i := range cleanBatch + 10 {
		write(t, dir, tempPrefix+strconv.Itoa(i)+tempSuffix, 2*tempAge)
	}
	write(t, dir, "example.com", 2*tempAge)
	if err := Dir(dir).Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkNames(t, Dir(dir), "example.com")
}

func TestCleanSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	if err := Dir(filepath.Join(dir, "missing")).Clean(t.Context()); err != nil {
		t.Errorf("a missing directory: %v", err)
	}
	write(t, dir, "file", 0)
	if err := Dir(filepath.Join(dir, "file")).Clean(t.Context()); err == nil {
		t.Error("a file in place of the directory: no error")
	}
	write(t, dir, ".put-1~", 2*tempAge)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Dir(dir).Clean(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	if got := namesIn(t, dir); !slices.Contains(got, ".put-1~") {
		t.Error("a file was removed under an ended context")
	}
}
