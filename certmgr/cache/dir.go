package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Dir is a [Cache] in the directory that it names: one file for each key, named
// after the key and readable by its owner alone (mode 0600). The first Put
// creates the directory with mode 0700; the mode of an existing one is not
// changed, and [Dir.Check] says what is wrong with it. Names, contents and modes
// are those of autocert.DirCache, so each can take over the other's directory.
//
// Put writes a temporary file, flushes it to disk, renames it into place and
// flushes the directory. So neither a reader nor a crash sees half a value, and
// a value survives a power failure once Put has returned. Several processes may
// share a directory. A process killed during a Put leaves its temporary file
// behind (its name begins with ".put-"). Such a file is never read; [Dir.Clean]
// removes it.
//
// On a file system that does not tell upper from lower case, Put refuses a key if
// there is an entry whose key differs by case alone, so none is ever overwritten by
// another one. Only tokens of http-01 have upper-case letters, and they are random.
//
// If the file system hangs, as a network mount may, calls still return when
// their context ends, those that change something 2 s later: in a file system
// that answers, nothing changes after a call has returned. The system call cannot
// be interrupted: it continues in its own goroutine until the file system
// answers. A rename that had begun by then may still take effect later.
//
// [Dir.Lock] has what else may be in the directory: the files of locks.
//
// The empty Dir is the working directory. A Dir is safe for concurrent use.
type Dir string

var _ Cache = Dir("")

// Get returns the content of the file of key, or [ErrMiss] if there is no such
// file or no such directory. A key too long for a file name is a miss too,
// because no Put can have stored it.
func (d Dir) Get(ctx context.Context, key string) ([]byte, error) {
	path, err := d.path(key)
	if err != nil {
		return nil, failed("get", key, err)
	}
	if len(key) > maxFileName {
		return nil, ErrMiss
	}
	data, err := await(ctx, func() ([]byte, error) { return readEntry(path) })
	if cannotExist(err) {
		// Not wrapped: autocert compares with ==.
		return nil, ErrMiss
	}
	if err != nil {
		return nil, failed("get", key, err)
	}
	return data, nil
}

// Put replaces the file of key, and creates the directory if it is missing.
func (d Dir) Put(ctx context.Context, key string, data []byte) error {
	path, err := d.path(key)
	if err != nil {
		return failed("put", key, err)
	}
	if len(data) > maxValue {
		return failed("put", key, errTooLarge)
	}
	fenced, err := d.fence(ctx)
	if err != nil {
		return failed("put", key, err)
	}
	// The goroutine below may outlive this call, and data is the caller's.
	data = bytes.Clone(data)
	err = awaitChange(ctx, func() error {
		switch other, err := otherName(path); {
		case err != nil:
			return err
		case other != "":
			return errOtherCase(other)
		}
		return replace(ctx, path, data, fenced)
	})
	if err != nil {
		return failed("put", key, err)
	}
	return nil
}

// Delete removes the file of key, if there is one, and flushes the directory.
func (d Dir) Delete(ctx context.Context, key string) error {
	path, err := d.path(key)
	if err != nil {
		return failed("delete", key, err)
	}
	fenced, err := d.fence(ctx)
	if err != nil {
		return failed("delete", key, err)
	}
	err = awaitChange(ctx, func() error {
		if other, err := otherName(path); err != nil || other != "" {
			return err // there is no such entry
		}
		return remove(path, fenced)
	})
	if err != nil {
		return failed("delete", key, err)
	}
	return nil
}

// path returns the file name of key. It accepts only keys that are a single
// file name, so no key can reach outside the directory or the directory itself.
func (d Dir) path(key string) (string, error) {
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	if key == "." || key != filepath.Base(key) || !filepath.IsLocal(key) || strings.ContainsFunc(key, control) {
		return "", errors.New("the key is not a plain file name")
	}
	if isOwn(key) {
		return "", errors.New("the key has the name of a temporary file or of one of a lock")
	}
	return filepath.Join(string(d), key), nil
}

// maxFileName is the longest file name, in bytes, that common file systems
// allow. Some allow less, such as eCryptfs with 143.
const maxFileName = 255

// maxValue is the largest value, in bytes. Those of certmgr have some kilobytes,
// and a few megabytes for a list of 20,000 hosts. A file that never ends, such
// as a link to /dev/zero, must not fill the memory.
const maxValue = 16 << 20

var errTooLarge = fmt.Errorf("the value is larger than %d bytes: no entry of a cache is; delete the file", maxValue)

// readEntry returns the content of the file at path, which has that very name. It
// does not check that for keys in lower case, which almost all are: Put does not
// store one beside a key that differs from it by case.
func readEntry(path string) ([]byte, error) {
	if hasUpper(filepath.Base(path)) {
		switch other, err := otherName(path); {
		case err != nil:
			return nil, err
		case other != "":
			return nil, fs.ErrNotExist
		}
	}
	return read(path)
}

// read returns the content of the file at path.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxValue+1))
	if err == nil && len(data) > maxValue {
		err = errTooLarge
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// cannotExist reports whether err says that there is no such file, or that its
// name is too long for this file system.
func cannotExist(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENAMETOOLONG)
}

// changeGrace is how long a call that changes the directory waits for the file
// system after its context has ended, so that it leaves nothing running behind
// it: whoever has closed a Manager may delete the directory. A busy disk takes a
// second to flush a file.
const changeGrace = 2 * time.Second

// awaitChange is [await] with that grace, for a function that changes the
// directory.
func awaitChange(ctx context.Context, change func() error) error {
	_, err := awaitWithin(ctx, changeGrace, func() (struct{}, error) { return struct{}{}, change() })
	return err
}

// await runs f, which may hang for ever, and returns its result, or the error
// of ctx as soon as ctx ends. If ctx has already ended, f is not started.
func await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	return awaitWithin(ctx, 0, f)
}

// awaitWithin is [await] with a grace for f after ctx has ended.
func awaitWithin[T any](ctx context.Context, grace time.Duration, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	done := make(chan result, 1) // buffered: the caller may have left
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	if grace > 0 {
		select {
		case r := <-done:
			return r.value, r.err
		case <-time.After(grace):
		}
	}
	return none, ctx.Err()
}

// failed adds the operation and the key. The errors of package os have the path
// and the cause.
func failed(op, key string, err error) error {
	return fmt.Errorf("cache: %s %q: %w", op, key, err)
}
