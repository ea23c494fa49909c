package hosts

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// write makes content that of the file at path, which was last written in the
// past.
func write(t *testing.T, path, content string, age time.Duration) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-age)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, f *File) *Reading {
	t.Helper()
	r := f.Begin(nil)
	r.Read(t.Context())
	return r
}

// Of two readings the one that began later counts, whichever ends first.
func TestEarlierReadingDoesNotReplaceALaterOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.txt")
	write(t, path, "a.example.com", time.Hour)
	f := NewFile(path)
	slow, quick := f.Begin(nil), f.Begin(nil)
	for _, r := range []*Reading{quick, slow} {
		if r.Read(t.Context()); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if !f.Accept(quick) || f.Accept(slow) {
		t.Error("an earlier reading replaces a later one")
	}
	slow.Err = errors.New("bad")
	if f.Reject(slow) {
		t.Error("an earlier reading that failed is reported after a later one was accepted")
	}
}

// A file is read again when it has changed and stays as it is for a while.
func TestFileIsDueOnceItStaysUnchanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.txt")
	synctest.Test(t, func(t *testing.T) {
		write(t, path, "a.example.com", time.Hour)
		f := NewFile(path)
		if r := read(t, f); r.Err != nil || !f.Accept(r) {
			t.Fatal(r.Err)
		}
		look := func(want bool, when string) {
			t.Helper()
			if due := f.IsDue(LookAt(path)); due != want {
				t.Errorf("%s: due is %v", when, due)
			}
		}
		look(false, "first look")
		time.Sleep(time.Minute)
		look(false, "unchanged since it was read")
		write(t, path, "a.example.com\nb.exam", time.Minute)
		look(false, "changed")
		time.Sleep(fileSettle / 2)
		look(false, "half of the time later")
		write(t, path, "a.example.com\nb.example.com", time.Second)
		look(false, "changed again")
		time.Sleep(fileSettle)
		look(true, "unchanged for long enough")
	})
}

// What is no list is refused and says why, so that the last good one stays.
func TestWhatIsNoListIsRefused(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		content string
		says    string
	}{
		"empty":                 {"", `write "# empty" into it`},
		"comments only":         {"# none yet\n\n", `write "# empty" into it`},
		"UTF-16":                {"\xff\xfea\x00.\x00b\x00", "is in UTF-16"},
		"a bad entry":           {"a.example.com\nlocalhost", "hosts.txt:2"},
		"a line without an end": {strings.Repeat("a", maxLine+1), "write one entry per line"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "hosts.txt")
			write(t, path, tt.content, time.Hour)
			r := read(t, NewFile(path))
			if r.Err == nil || !strings.Contains(r.Err.Error(), tt.says) {
				t.Errorf("%v does not say %q", r.Err, tt.says)
			}
		})
	}
	path := filepath.Join(dir, "hosts.txt")
	write(t, path, "# empty", time.Hour)
	if r := read(t, NewFile(path)); r.Err != nil || len(r.Entries) != 0 {
		t.Errorf("a file that is empty on purpose: %q, %v", r.Entries, r.Err)
	}
}

// A list that is too large for a file, or takes too long, is not read to its
// end.
func TestReadingOfAListIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.txt")
	write(t, path, "", time.Hour)
	if err := os.Truncate(path, MaxFileSize+1); err != nil {
		t.Skip(err) // the file system has no sparse files
	}
	if r := read(t, NewFile(path)); r.Err == nil || !strings.Contains(r.Err.Error(), "more than") {
		t.Errorf("a file of %d bytes: %v", MaxFileSize+1, r.Err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	lines := strings.NewReader(strings.Repeat("#\n", 4096))
	if _, err := parseFile(ctx, "hosts.txt", lines); !errors.Is(err, context.Canceled) || lines.Len() == 0 {
		t.Errorf("%d bytes are left, %v", lines.Len(), err)
	}
	if _, err := parseFile(t.Context(), "hosts.txt", io.MultiReader(strings.NewReader("a.example.com\n"), errReader{})); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("%v", err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrNoProgress }
