//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package cache

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// locksRenamedFiles is whether an open file that is locked can be renamed and
// removed.
const locksRenamedFiles = true

// tryLockFile locks an open file for this one alone, or reports that it is locked.
// The lock ends when the file is closed.
func tryLockFile(f *os.File) (locked bool, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	controlErr := conn.Control(func(fd uintptr) {
		err = syscall.EINTR
		for errors.Is(err, syscall.EINTR) {
			err = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB)
		}
	})
	switch {
	case controlErr != nil:
		return false, controlErr
	case err == nil:
		return true, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		return false, nil
	case errors.Is(err, syscall.ENOLCK): // a network file system without a lock server
		return false, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	default:
		return false, err // that of ENOSYS and ENOTSUP is errors.ErrUnsupported
	}
}
