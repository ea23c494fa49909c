package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nostall/nostall/internal/text"
)

// MaxFileSize is the largest file of a list, in bytes: about 10 million names.
const MaxFileSize = 256 << 20

// FileState identifies a version of a file. It differs after the file was
// replaced or written.
type FileState struct {
	info  os.FileInfo // nil if the file could not be looked at
	cause error       // why
}

func (s FileState) same(t FileState) bool {
	if s.info == nil || t.info == nil {
		return s.info == nil && t.info == nil && text.Of(s.cause) == text.Of(t.cause)
	}
	return os.SameFile(s.info, t.info) && s.info.Size() == t.info.Size() && s.info.ModTime().Equal(t.info.ModTime()) && s.info.Mode() == t.info.Mode()
}

// LookAt returns the state of the file at path.
func LookAt(path string) FileState {
	info, err := os.Stat(path)
	if err != nil {
		return FileState{cause: err}
	}
	return FileState{info: info}
}

// Reading is one reading of a list's file; see File.Begin.
type Reading struct {
	Entries []string // the file's entries, if Err is nil
	Err     error    // why the file cannot be used
	Number  uint64   // counts the readings of a File

	path    string
	at      time.Time
	stable  *FileState // the state in which the file has stayed for a while, or nil
	state   FileState
	content bool // Err is about the content: it stays until the file changes
}

// settles reports whether the next change of the file will change its state.
func (r *Reading) settles() bool {
	return r.stable != nil || r.state.info != nil && r.at.Sub(r.state.info.ModTime()) >= fileFresh
}

// ErrChanging: the file was written while it was being read.
var ErrChanging = errors.New("it changed while it was being read; try again")

// Read reads the file and sets Entries or Err. It stops when ctx ends.
func (r *Reading) Read(ctx context.Context) {
	r.read(ctx)
	if r.stable != nil && !r.state.same(*r.stable) {
		r.Err = ErrChanging // a write began a moment ago
	}
}

func (r *Reading) read(ctx context.Context) {
	r.state = LookAt(r.path)
	if r.state.info == nil {
		r.Err = &FileError{r.state.cause}
		return
	}
	if r.Err = readable(r.path, r.state.info); r.Err != nil {
		r.content = true
		return
	}
	// The file was regular a moment ago: opening a FIFO would block until it
	// has a writer.
	file, err := os.Open(r.path)
	if err != nil {
		r.Err = &FileError{err}
		return
	}
	defer file.Close()
	r.readFrom(ctx, file)
}

func (r *Reading) readFrom(ctx context.Context, file *os.File) {
	info, err := file.Stat()
	if err == nil {
		r.state = FileState{info: info}
		err = readable(r.path, info)
	}
	if err == nil {
		r.Entries, r.Err = parseFile(ctx, r.path, io.LimitReader(file, MaxFileSize))
		info, err = file.Stat()
	}
	switch {
	case err != nil:
		r.Err = &FileError{err}
	case !r.state.same(FileState{info: info}):
		r.Err = &FileError{fmt.Errorf("%s: %w", r.path, ErrChanging)}
	case r.Err != nil:
		_, unread := r.Err.(*FileError)
		r.content = !unread
	}
}

// readable returns why a file cannot be used, or nil.
func readable(path string, info os.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return &FileError{fmt.Errorf("%s is not a regular file (its mode is %v)", path, info.Mode())}
	case info.Size() > MaxFileSize:
		return &FileError{fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), MaxFileSize)}
	}
	return nil
}

// FileError is the error of a file that could not be read.
type FileError struct{ cause error }

// Error returns one line of bounded length, with room for the caller's prefix.
func (e *FileError) Error() string {
	return text.OneLine("allowlist file: "+e.cause.Error(), text.MaxError-len("certmgr: "))
}

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.cause }
