//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package cache

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// locksRenamedFiles is whether an open file that is locked can be renamed and
// removed.
const locksRenamedFiles = false

// tryLockFile fails: this system has no locks of files that end with the process.
func tryLockFile(*os.File) (locked bool, err error) {
	return false, fmt.Errorf("on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
