package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
)

var _ Lister = Dir("")

// Keys implements [Lister]: the names of the regular files in the directory,
// without the temporary files of Put and those of locks. autocert.DirCache's own temporary files,
// which a killed process leaves behind, look like entries. A directory that does
// not exist has none.
func (d Dir) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		f, err := await(ctx, func() (*os.File, error) { return os.Open(filepath.Join(string(d), ".")) })
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err == nil {
			defer f.Close()
		}
		for err == nil {
			var batch []fs.DirEntry
			batch, err = await(ctx, func() ([]fs.DirEntry, error) { return f.ReadDir(cleanBatch) })
			for _, entry := range batch {
				if entry.Type().IsRegular() && !isOwn(entry.Name()) && !yield(entry.Name(), nil) {
					return
				}
			}
		}
		if !errors.Is(err, io.EOF) {
			yield("", fmt.Errorf("cache: list the keys: %w", err))
		}
	}
}
