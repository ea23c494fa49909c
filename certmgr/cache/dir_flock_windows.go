package cache

import (
	"errors"
	"os"
	"syscall"
	"unsafe"
)

// errLockViolation is Windows' ERROR_LOCK_VIOLATION.
const errLockViolation = syscall.Errno(33)

// locksRenamedFiles is whether an open file that is locked can be renamed and
// removed.
const locksRenamedFiles = false

// tryLockFile locks an open file for this one alone, or reports that it is locked.
// The lock ends when the file is closed.
func tryLockFile(f *os.File) (locked bool, err error) {
	// LOCKFILE_FAIL_IMMEDIATELY and LOCKFILE_EXCLUSIVE_LOCK.
	const flags = 1 | 2
	lockFileEx := syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")
	if err := lockFileEx.Find(); err != nil {
		return false, errors.Join(errors.ErrUnsupported, err)
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var ok uintptr
	controlErr := conn.Control(func(fd uintptr) {
		// One byte far behind the content, which may so be read and written.
		at := syscall.Overlapped{OffsetHigh: 1}
		ok, _, err = lockFileEx.Call(fd, flags, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	})
	switch {
	case controlErr != nil:
		return false, controlErr
	case ok != 0:
		return true, nil
	case errors.Is(err, errLockViolation), errors.Is(err, syscall.ERROR_IO_PENDING):
		return false, nil
	default:
		return false, err
	}
}
