package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

var _ Locker = Dir("")

// Lock implements [Locker] for the processes of one machine that share the
// directory. Leases end by the clock of the machine. If that is set back, a lease
// may last longer, by at most its ttl from the next Lock on; if it is set forward,
// leases end early, and those who have them notice.
//
// A lock that is taken is a file in the directory, whose name begins with
// ".lease-"; Unlock removes it. It is changed, and an entry is changed under
// [Guard], while one of 16 files whose names begin with ".locks-" is locked with
// flock(2), or LockFileEx on Windows; Unlock removes that too, except on Windows.
// Tokens grow with the clock, and may not if it is set back: fencing asks for the
// same token and does not depend on that. A process that is stopped while it has
// such a lock, which takes a few file operations, makes the calls of others about
// that lock, and a 16th of all others, wait until their contexts end.
//
// The leases of a process end with it, also if it was killed, for processes with the
// same host name: a container with a new one waits for their end by the clock. On
// Windows all do.
//
// It is no lock between machines that share a network file system: the file system
// may lock files among the processes of each machine only, may show one machine what
// another one has changed seconds later, and the machines' clocks differ. Two of
// them may then order the same certificate, and the later one overwrites it. Use a
// store with locks of its own there.
//
// The error wraps [errors.ErrUnsupported] if the system or the file system has no
// locks of files, or the directory cannot be written because the disk is full or
// read-only, for example: what is stored in it can be used without.
func (d Dir) Lock(ctx context.Context, name, owner string, ttl time.Duration) (Lease, error) {
	if err := CheckLock(name, owner, ttl); err != nil {
		return nil, err
	}
	l := &dirLease{locks: dirLocks(filepath.Clean(string(d))), name: name}
	err := awaitChange(ctx, func() error {
		token, file, err := l.locks.take(ctx, name, owner, ttl)
		l.token, l.hold = token, newHold(file, ttl)
		return err
	})
	if isOfFiles(err) && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	if err != nil {
		return nil, failedLock("lock", name, err)
	}
	return l, nil
}

// isOfFiles reports whether a file operation failed.
func isOfFiles(err error) bool {
	_, one := errors.AsType[*fs.PathError](err)
	_, two := errors.AsType[*os.LinkError](err)
	return one || two
}

// fence returns a function that runs a change of an entry in one step with the
// comparison of the lease of ctx, if that is one of [Guard].
func (d Dir) fence(ctx context.Context) (func(change func() error) error, error) {
	guard := Guarded(ctx)
	if guard == nil {
		return func(change func() error) error { return change() }, nil
	}
	l, ok := guard.(*dirLease)
	if !ok || l.locks != dirLocks(filepath.Clean(string(d))) {
		return nil, errForeign
	}
	return func(change func() error) error {
		return l.locks.with(ctx, l.name, l.token, func(*os.File, string, leaseFile) error { return change() })
	}, nil
}

// dirLease is a lease of a [Dir]. It does not change once Lock has returned.
type dirLease struct {
	locks dirLocks
	name  string
	token int64
	hold  *hold
}

func (l *dirLease) Token() int64 { return l.token }

func (l *dirLease) Extend(ctx context.Context, ttl time.Duration) error {
	if err := CheckLock(l.name, "", ttl); err != nil {
		return err
	}
	err := awaitChange(ctx, func() error {
		l.hold.last(ttl) // before others can see that the lease lasts longer
		return l.locks.extend(ctx, l.name, l.token, ttl)
	})
	if errors.Is(err, ErrLost) {
		l.hold.end()
	}
	return failedLock("extend lock", l.name, err)
}

func (l *dirLease) Unlock(ctx context.Context) error {
	err := awaitChange(ctx, func() error { return l.locks.release(ctx, l.name, l.token) })
	l.hold.end()
	return failedLock("unlock", l.name, err)
}

// failedLock adds the operation and the name to an error that does not have them.
func failedLock(op, name string, err error) error {
	if _, held := err.(*HeldError); held || err == nil {
		return err
	}
	return failed(op, name, err)
}
