package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// tempAge is the age from which a temporary file is one of a process that
	// was killed: a Put takes seconds.
	tempAge = time.Hour

	// cleanBatch is how many names of a directory are in memory at a time.
	cleanBatch = 1000
)

// Clean removes the temporary files that killed processes left in the directory
// more than an hour ago: they hold private keys. The files of locks whose leases
// ended that long ago are removed too. It reads the directory once, and ends with
// ctx. It touches regular files with names of these kinds only, and follows no link. autocert.DirCache's own temporary files have the name of an
// entry and some digits, which may be an entry as well; Clean leaves them.
//
// A certmgr.Manager cleans its Cache once, in the background, if that has this
// method. A directory that does not exist is clean.
func (d Dir) Clean(ctx context.Context) error {
	err := awaitChange(ctx, func() error { return clean(ctx, filepath.Join(string(d), ".")) })
	if err != nil {
		return fmt.Errorf("cache: removing old temporary files: %w", err)
	}
	return nil
}

// clean returns the first error, and removes what it can.
func clean(ctx context.Context, dir string) error {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	before := time.Now().Add(-tempAge)
	var failed error
	for {
		entries, err := f.ReadDir(cleanBatch)
		for _, e := range entries {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := cleanEntry(ctx, dir, e, before); err != nil && !errors.Is(err, fs.ErrNotExist) && failed == nil {
				failed = err
			}
		}
		if errors.Is(err, io.EOF) {
			return failed
		}
		if err != nil {
			return err
		}
	}
}

// cleanEntry removes a file that a process left behind before a time.
func cleanEntry(ctx context.Context, dir string, e fs.DirEntry, before time.Time) error {
	if isOldTemp(e, before) {
		return os.Remove(filepath.Join(dir, e.Name()))
	}
	if !isLease(e.Name()) || !e.Type().IsRegular() {
		return nil
	}
	err := dirLocks(dir).removeEnded(ctx, e.Name(), before)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// isOwn reports whether a file has the name of one that is no entry.
func isOwn(name string) bool { return isTemp(name) || isLease(name) || isStripe(name) }

// isTemp reports whether a file has the name of a temporary file of Put.
func isTemp(name string) bool {
	digits, ok := strings.CutPrefix(name, tempPrefix)
	digits, ok2 := strings.CutSuffix(digits, tempSuffix)
	return ok && ok2 && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// isOldTemp reports whether an entry is a temporary file from before a time.
func isOldTemp(e fs.DirEntry, before time.Time) bool {
	if !isTemp(e.Name()) || !e.Type().IsRegular() {
		return false
	}
	info, err := e.Info() // of the entry itself, if it is a link
	return err == nil && info.Mode().IsRegular() && info.ModTime().Before(before)
}
