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

// MaxFileSize bounds a list's file, in bytes: about 10 million names.
const MaxFileSize = 256 << 20

// FileState is what a look at a file tells. A file that was replaced or written is
// in another one.
type FileState struct {
	info  os.FileInfo // nil: it could not be looked at
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
	Entries []string // what is in the file, unless there is an error
	Err     error    // why the file cannot be the list
	Number  uint64   // counts the readings of a File

	path    string
	at      time.Time
	stable  *FileState // how the file has looked for a while, or nil
	state   FileState
	content bool // Err is about what is in the file: it stays while the file does
}

// settles reports whether the state of the file tells the next change.
func (r *Reading) settles() bool {
	return r.stable != nil || r.state.info != nil && r.at.Sub(r.state.info.ModTime()) >= fileFresh
}

// ErrChanging: the file was written while it was read.
var ErrChanging = errors.New("it was changed while it was read; try again")

// Read reads the file. It gives up when ctx ends.
func (r *Reading) Read(ctx context.Context) {
	r.read(ctx)
	if r.stable != nil && !r.state.same(*r.stable) {
		r.Err = ErrChanging // somebody began to write it a moment ago
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
	// What was a regular file a moment ago is opened; a FIFO would wait for its writer.
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

// readable returns why a file cannot be a list's.
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

// Error is one line of bounded length, with room for a caller's prefix.
func (e *FileError) Error() string {
	return text.OneLine("allowlist file: "+e.cause.Error(), text.MaxError-len("certmgr: "))
}

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.cause }
