//go:build unix

package cases

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nostall/nostall/certmgr"
)

// B35: the directory belongs to another user, as after a switch from root to a
// service's user (The Things Stack's documentation). The error says so, and no
// certificate is ordered that could not be stored.
func TestADirectoryOfAnotherUserIsNamed(t *testing.T) {
	asNobody(t, func(t *testing.T, dir string) {
		for name, sub := range map[string]string{"not readable": "closed", "not writable": "open"} {
			table.Run(t, "B35/"+name, func(t *T) {
				bubble(t, func(t *T, w *world) {
					w.cache = certmgr.DirCache(filepath.Join(dir, sub))
					w.restart()
					_, err := w.get(host)
					if !errors.Is(err, certmgr.ErrCache) || !strings.Contains(err.Error(), "permission denied") {
						t.Errorf("[%s] %v, want an error that says permission denied", sentinels(err), err)
					}
					if n := w.newOrders(); n > 0 {
						t.Errorf("%d orders", n)
					}
				})
			})
		}
	})
}

// asNobody calls f with a directory of two: "closed" cannot be read, and "open"
// cannot be written. Root ignores permissions, so as root the test runs in a
// process of another user, who owns nothing.
func asNobody(t *testing.T, f func(t *testing.T, dir string)) {
	t.Helper()
	const variable = "NOSTALL_CASES_FOREIGN_DIR"
	if dir := os.Getenv(variable); dir != "" {
		f(t, dir)
		return
	}
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"closed": 0, "open": 0o555} {
		sub := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(sub, 0o700), os.Chmod(sub, mode)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(sub, 0o700) })
	}
	if os.Getuid() != 0 {
		f(t, dir)
		return
	}
	cmd := exec.CommandContext(t.Context(), binaryFor(t, dir), "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), variable+"="+dir)
	const nobody = 65534
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("a process of another user cannot be started: %v", err)
	}
	t.Logf("as user %d:\n%s", nobody, out)
	if err != nil {
		t.Error(err)
	}
}

// binaryFor copies the test binary to dir, where every user may run it.
func binaryFor(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "cases.test")
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	// The parent of a test's temporary directory is closed to other users.
	if err := errors.Join(os.WriteFile(path, self, 0o755), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}
