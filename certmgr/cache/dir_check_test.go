package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestDirCheck(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing")
	}
	tests := []struct {
		name      string
		dir, file os.FileMode
		above     os.FileMode
		want      []string
	}{
		{"as Dir makes it", 0o700, 0o600, 0o755, nil},
		{"others can list it", 0o755, 0o600, 0o755, []string{"can read the directory", "0755", "chmod 700"}},
		{"the group can list it", 0o750, 0o600, 0o755, []string{"can read the directory", "0750"}},
		{"others can write", 0o777, 0o600, 0o755, []string{"can write to the directory", "0777", "replace keys"}},
		{"a copy of keys", 0o755, 0o644, 0o755, []string{"can read the directory", "1 files", `"example.com" (mode 0644)`, "chmod 600"}},
		{"a file that others can read in a closed directory", 0o700, 0o644, 0o755, nil},
		{"a closed directory above", 0o777, 0o644, 0o700, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// Not t.TempDir, into which others cannot go.
			top, err := os.MkdirTemp("", "check")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(top) })
			for above := filepath.Dir(top); above != filepath.Dir(above); above = filepath.Dir(above) {
				if info, err := os.Stat(above); err != nil || info.Mode()&othersEnter == 0 {
					t.Skipf("others cannot go into %s", above)
				}
			}
			d := Dir(filepath.Join(top, "dir"))
			if err := d.Put(t.Context(), "example.com", []byte("value")); err != nil {
				t.Fatal(err)
			}
			for path, mode := range map[string]os.FileMode{filepath.Join(string(d), "example.com"): tt.file, string(d): tt.dir, top: tt.above} {
				if err := os.Chmod(path, mode); err != nil {
					t.Fatal(err)
				}
			}
			err = d.Check(t.Context())
			if (err == nil) != (tt.want == nil) {
				t.Errorf("Check: %v, want %q", err, tt.want)
			}
			for _, want := range tt.want {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("Check: %v, want %q in it", err, want)
				}
			}
		})
	}
}

// A link to the directory may be where others cannot go, and the directory is not.
func TestDirCheckFollowsLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing")
	}
	top, err := os.MkdirTemp("", "check")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	dir, closed := filepath.Join(top, "dir"), filepath.Join(top, "closed")
	for path, mode := range map[string]os.FileMode{top: 0o755, dir: 0o755, closed: 0o700} {
		if err := errors.Join(os.MkdirAll(path, mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(closed, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	direct, byLink := Dir(dir).Check(t.Context()), Dir(link).Check(t.Context())
	if direct == nil {
		t.Skip("others cannot go into the directory of temporary files")
	}
	if byLink == nil || !strings.Contains(byLink.Error(), "can read the directory") {
		t.Errorf("by a link: %v, want %v", byLink, direct)
	}
}

func TestDirCheckOfNothing(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "missing"))
	if err := d.Check(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Check(ctx); runtime.GOOS != "windows" && !errors.Is(err, context.Canceled) {
		t.Errorf("under a context that has ended: %v", err)
	}
}
