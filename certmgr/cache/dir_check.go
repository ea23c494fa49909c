package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Permissions of a file's group and of all others.
const (
	othersAll   fs.FileMode = 0o077
	othersWrite fs.FileMode = 0o022
	othersEnter fs.FileMode = 0o011
)

// Check returns an error that says what in the directory others than its owner
// can read or write, and what to do: the group counts among them. Dir itself makes
// nothing of that kind, but uses a directory as it is. Who can write to it can
// replace keys and certificates; who can read a file has a private key. It reads
// the directory once, and ends with ctx. It says nothing if a directory above
// keeps others out, if there is no directory, and on Windows, where modes mean
// nothing.
//
// A certmgr.Manager checks its Cache once, in the background, if that has this
// method, and warns of what it finds.
func (d Dir) Check(ctx context.Context) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	_, err := await(ctx, func() (struct{}, error) { return struct{}{}, checkDir(ctx, string(d)) })
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return nil
}

func checkDir(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	// Others need not go by the link.
	dir, err = filepath.EvalSymlinks(dir)
	var info fs.FileInfo
	if err == nil {
		info, err = os.Stat(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for above := dir; above != filepath.Dir(above); {
		above = filepath.Dir(above)
		if info, err := os.Stat(above); err == nil && info.Mode()&othersEnter == 0 {
			return nil
		}
	}
	var found []error
	const remedy = "run \"chmod 700\" on it, or use a directory in it that does not exist yet, which is created with that mode"
	switch mode := info.Mode().Perm(); {
	case mode&othersWrite != 0:
		found = append(found, fmt.Errorf("others than its owner can write to the directory %q (mode %#o), and so replace keys and certificates: %s",
			dir, mode, remedy))
	case mode&othersAll != 0:
		found = append(found, fmt.Errorf("others than its owner can read the directory %q (mode %#o): %s", dir, mode, remedy))
	}
	if info.Mode()&othersEnter != 0 {
		found = append(found, checkFiles(ctx, dir))
	}
	return errors.Join(found...)
}

// checkFiles returns an error about files that others can read or write.
func checkFiles(ctx context.Context, dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	open, first := 0, ""
	for {
		entries, err := f.ReadDir(cleanBatch)
		for _, e := range entries {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() || info.Mode()&othersAll == 0 {
				continue
			}
			if open++; first == "" {
				first = fmt.Sprintf("%q (mode %#o)", e.Name(), info.Mode().Perm())
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if open == 0 {
		return nil
	}
	return fmt.Errorf("others than their owner can read or write %d files in %q, such as %s, which may hold private keys: run \"chmod 600\" on them",
		open, dir, first)
}
