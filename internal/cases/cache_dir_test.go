package cases

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr"
)

// B35: directories as found in the field (some are from The Things Stack's
// documentation). A usable one is used; otherwise the error says what is wrong.
func TestAnOddDirectoryWorksOrIsNamed(t *testing.T) {
	must := func(t *T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		set  func(t *T, dir string) // makes what is odd at dir, whose parent is there
		want string                 // in the error; empty if it works
	}{
		"missing parents":     {func(*T, string) {}, ""},
		"link to a directory": {func(t *T, dir string) { must(t, os.Symlink(t.TempDir(), dir)) }, ""},
		"dangling link":       {func(t *T, dir string) { must(t, os.Symlink(dir+"-gone", dir)) }, "certs"},
		"file":                {func(t *T, dir string) { must(t, os.WriteFile(dir, nil, 0o600)) }, "not a directory"},
		"entry is a directory": {func(t *T, dir string) { must(t, os.MkdirAll(filepath.Join(dir, host), 0o700)) },
			"is a directory"},
		"account key is a directory": {func(t *T, dir string) { must(t, os.MkdirAll(filepath.Join(dir, "acme_account+key"), 0o700)) },
			"is a directory"},
	} {
		table.Run(t, "B35/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				dir := filepath.Join(t.TempDir(), "certs")
				tt.set(t, dir)
				if name == "missing parents" {
					dir = filepath.Join(dir, "a", "b")
				}
				w.cache = certmgr.DirCache(dir)
				w.restart()
				_, err := w.get(host)
				switch {
				case tt.want == "" && err != nil:
					t.Errorf("not served: %v", err)
				case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
					t.Errorf("got %v, want an error that says %q", err, tt.want)
				}
			})
		})
	}
}
