package hosts

import "time"

// File tracks the file of a list: which reading is in use, and when to read it
// again. Its owner's lock guards it, and is not held while the file is read.
type File struct {
	path string

	begun   uint64 // counts readings
	applied uint64 // the reading in use

	settled bool // the file was read in the state done; no need to read it again in that state
	done    FileState

	seen  FileState // at the last look
	since time.Time // when it was first seen in that state

	rejected     string // the last error reported; empty after a good reading
	rejectedFrom FileState
}

const (
	// PollEvery is how often to look at a file.
	PollEvery = 2 * time.Second

	// fileSettle is how long a file must stay unchanged before it is read: it
	// may still be being written. It is less than PollEvery because timers are
	// not exact.
	fileSettle = PollEvery * 3 / 4

	// fileFresh is how old a file's modification time must be to reveal the
	// next change: some file systems store it to 2 seconds only.
	fileFresh = 4 * time.Second
)

// NewFile returns a File for the file at path.
func NewFile(path string) *File { return &File{path: path} }

// Path returns the file's path. It may be called without the owner's lock.
func (f *File) Path() string { return f.path }

// Begin returns the next reading. The caller calls its Read without holding the
// lock. If stable is not nil, it is the state in which the file has stayed for
// a while, and a file in any other state counts as changing.
func (f *File) Begin(stable *FileState) *Reading {
	f.begun++
	return &Reading{path: f.path, Number: f.begun, at: time.Now(), stable: stable}
}

// Failed returns a reading of a file that could not be looked at.
func (f *File) Failed(err error) *Reading {
	return &Reading{path: f.path, Number: f.begun, Err: &FileError{err}}
}

// Accept records that the list is from this good reading. It returns false if a
// later reading was quicker and is already in use.
func (f *File) Accept(r *Reading) bool {
	if r.Number < f.applied {
		return false
	}
	f.applied = r.Number
	f.settled, f.done = r.settles(), r.state
	f.rejected = ""
	return true
}

// Reject records a bad reading. It returns false if it need not be reported: a
// later reading was accepted, or the error and the file's state are the same as
// before.
func (f *File) Reject(r *Reading) bool {
	if r.content {
		f.settled, f.done = r.settles(), r.state
	}
	why := r.Err.Error()
	if r.Number < f.applied || why == f.rejected && r.state.same(f.rejectedFrom) {
		return false
	}
	f.rejected, f.rejectedFrom = why, r.state
	return true
}

// IsRejected reports whether the last reading recorded was a bad one.
func (f *File) IsRejected() bool { return f.rejected != "" }

// IsDue reports whether the file, now in the given state, must be read: it has
// changed and is probably complete.
func (f *File) IsDue(state FileState) bool {
	if !state.same(f.seen) || f.since.IsZero() {
		f.seen, f.since = state, time.Now()
		return false
	}
	known := f.settled && state.same(f.done) && (!f.IsRejected() || state.same(f.rejectedFrom))
	return !known && time.Since(f.since) >= fileSettle
}
