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
)

// Dir is a [Cache] in the directory that it names: one file for each key,
// called like the key, readable by its owner alone (mode 0600). The directory
// is created with mode 0700 by the first Put; the mode of one that exists is
// left as it is. Names, contents and modes are those of autocert.DirCache, so
// that each can take over the directory of the other.
//
// Values are written to a temporary file, flushed to the disk and renamed into
// place, so that neither a reader nor a crash meets half a value. Several
// processes may share a directory. A process that is killed in the middle of a
// Put leaves its temporary file behind (its name begins with ".put-"); it is
// never read and may be deleted.
//
// A file system that hangs, as a network mount may, does not hold the caller
// any longer than its context. The system call goes on in a goroutine of its
// own until the file system answers, because nothing can interrupt it. A
// rename that had begun by then may still take effect later.
//
// The empty Dir is the working directory. A Dir is safe for concurrent use.
type Dir string

var _ Cache = Dir("")

// Get returns the content of the file of key, or [ErrMiss] when there is no
// such file or no such directory. A key that is too long for the name of a file
// is a miss too, because no Put can have stored it.
func (d Dir) Get(ctx context.Context, key string) ([]byte, error) {
	path, err := d.path(key)
	if err != nil {
		return nil, failed("get", key, err)
	}
	if len(key) > maxFileName {
		return nil, ErrMiss
	}
	data, err := await(ctx, func() ([]byte, error) { return os.ReadFile(path) })
	if errors.Is(err, fs.ErrNotExist) {
		// Bare and not wrapped: autocert compares with ==.
		return nil, ErrMiss
	}
	if err != nil {
		return nil, failed("get", key, err)
	}
	return data, nil
}

// Put replaces the file of key, and creates the directory when it is missing.
func (d Dir) Put(ctx context.Context, key string, data []byte) error {
	path, err := d.path(key)
	if err != nil {
		return failed("put", key, err)
	}
	// The goroutine below may outlive this call, and data is the caller's.
	data = bytes.Clone(data)
	_, err = await(ctx, func() (struct{}, error) { return struct{}{}, replace(ctx, path, data) })
	if err != nil {
		return failed("put", key, err)
	}
	return nil
}

// Delete removes the file of key if there is one.
func (d Dir) Delete(ctx context.Context, key string) error {
	path, err := d.path(key)
	if err != nil {
		return failed("delete", key, err)
	}
	if len(key) > maxFileName {
		return nil
	}
	_, err = await(ctx, func() (struct{}, error) { return struct{}{}, os.Remove(path) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("delete", key, err)
	}
	return nil
}

// path returns the name of the file of key. A key that is more than the name
// of one file is refused, so that no key can reach outside the directory, nor
// the directory itself.
func (d Dir) path(key string) (string, error) {
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	if key == "." || key != filepath.Base(key) || !filepath.IsLocal(key) || strings.ContainsFunc(key, control) {
		return "", errors.New("the key is not a plain file name")
	}
	return filepath.Join(string(d), key), nil
}

// maxFileName is the longest name of a file, in bytes, that any common file
// system allows.
const maxFileName = 255

// replace makes data the content of the file at path, in one step that other
// processes see whole or not at all. It leaves the file alone when ctx ends
// before that step, and removes its temporary file whenever it fails.
func replace(ctx context.Context, path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// CreateTemp gives the file mode 0600. The name does not contain the key,
	// which may be nearly as long as a file name can be, and its '~' is in no
	// key.
	f, err := os.CreateTemp(dir, ".put-*~")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// The cause is what matters: a file that cannot be removed
			// either is never read.
			_ = os.Remove(f.Name())
		}
	}()
	if err := writeSync(f, data); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// syncWriter is what writeSync needs of an *os.File.
type syncWriter interface {
	io.WriteCloser
	Sync() error
}

// writeSync writes data to f, flushes it to the disk and closes f. Without the
// flush a power failure after the rename could leave an empty file where a
// certificate had been.
func writeSync(f syncWriter, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	// Some network file systems report a failed write no earlier than here.
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// await runs f, which the file system may hold for ever, and returns what f
// returned, or the error of ctx as soon as that ends. It does not start f at
// all when ctx has ended already.
func await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	done := make(chan result, 1) // room for the result when nobody waits any more
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// failed names the operation and the key. The errors of package os add the
// path and the cause.
func failed(op, key string, err error) error {
	return fmt.Errorf("cache: %s %q: %w", op, key, err)
}
