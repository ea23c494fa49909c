package cache

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// replace makes data the content of the file at path, in one step that other
// processes see whole or not at all, and that a power failure does not undo. If
// ctx ends before that step, the file is left alone. On failure the temporary
// file is removed. That step is taken by a function that is given to fenced.
func replace(ctx context.Context, path string, data []byte, fenced func(change func() error) error) (err error) {
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return err
	}
	// CreateTemp gives the file mode 0600. The name does not contain the key,
	// which may already be as long as a file name can be.
	f, err := os.CreateTemp(dir, tempPrefix+"*"+tempSuffix)
	if err != nil {
		return err
	}
	renamed := false
	defer func() {
		if err != nil && !renamed {
			// Report the first cause. A temporary file that cannot be removed
			// either is never read.
			_ = os.Remove(f.Name())
		}
	}()
	if err := writeSync(f, data); err != nil {
		return err
	}
	err = fenced(func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return os.Rename(f.Name(), path)
	})
	if err != nil {
		return err
	}
	renamed = true
	return syncDir(dir)
}

// Temporary files are named tempPrefix, digits, tempSuffix. No key contains '~'.
const (
	tempPrefix = ".put-"
	tempSuffix = "~"
)

// remove removes the file at path, if there is one, for good once it has returned.
// It does so by a function that is given to fenced.
func remove(path string, fenced func(change func() error) error) error {
	missing := false
	err := fenced(func() error {
		err := os.Remove(path)
		if missing = cannotExist(err); missing {
			return nil
		}
		return err
	})
	if err != nil || missing {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// makeDir creates a directory and its missing parents with mode 0700, and
// flushes the directories that have new entries.
func makeDir(dir string) error {
	var changed []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) || d == filepath.Dir(d) {
			break
		}
		changed = append(changed, filepath.Dir(d))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range changed {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return nil
}

// syncDir flushes the entries of a directory to disk. It does nothing where
// that is impossible: on Windows, on file systems that do not support it, and
// for a directory that this process may not read.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// syncWriter is the part of *os.File that writeSync uses.
type syncWriter interface {
	io.WriteCloser
	Sync() error
}

// writeSync writes data to f, flushes it to disk and closes f. Without the
// flush, a power failure after the rename could leave an empty file in place of
// a certificate.
func writeSync(f syncWriter, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	// Some network file systems report a failed write only here.
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
