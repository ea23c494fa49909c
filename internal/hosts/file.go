package hosts

import "time"

// File follows the file of a list: which reading of it holds, and when it has to be
// read again. Its owner's lock guards it, and is not held while the file is read.
type File struct {
	path string

	begun   uint64 // counts readings
	applied uint64 // the reading that the list is from

	settled bool // the file was read as done says, and need not be while it is like that
	done    FileState

	seen  FileState // by the last look
	since time.Time // when it was first seen like that

	rejected     string // the last error that was reported; empty after a good reading
	rejectedFrom FileState
}

const (
	// PollEvery is how often a file is to be looked at.
	PollEvery = 2 * time.Second

	// fileSettle is how long a file has to look the same before it is read: it may
	// be in the middle of being written. It is less than PollEvery because timers
	// are not exact.
	fileSettle = PollEvery * 3 / 4

	// fileFresh is how long ago a file must have been written for its time to tell
	// the next change: some file systems know it to 2 seconds only.
	fileFresh = 4 * time.Second
)

// NewFile returns what follows the file at path.
func NewFile(path string) *File { return &File{path: path} }

// Path returns the file's path. It needs no lock.
func (f *File) Path() string { return f.path }

// Begin returns the next reading, which the caller has to Read without the lock. If
// a state is given, in which the file has been for a while, a file that is in another
// one is found to be changing.
func (f *File) Begin(stable *FileState) *Reading {
	f.begun++
	return &Reading{path: f.path, Number: f.begun, at: time.Now(), stable: stable}
}

// Failed returns the reading of a file that could not be looked at.
func (f *File) Failed(err error) *Reading {
	return &Reading{path: f.path, Number: f.begun, Err: &FileError{err}}
}

// Accept notes that the list is from a good reading. It returns false if it is from
// a later one, that was quicker.
func (f *File) Accept(r *Reading) bool {
	if r.Number < f.applied {
		return false
	}
	f.applied = r.Number
	f.settled, f.done = r.settles(), r.state
	f.rejected = ""
	return true
}

// Reject notes a bad reading. It returns false if that is no news: a later reading was
// accepted, or it is the same error and the same state of the file.
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

// IsRejected reports whether the last reading that counted was a bad one.
func (f *File) IsRejected() bool { return f.rejected != "" }

// IsDue reports whether the file, whose state is that now, has changed and is likely
// to be complete: it has to be read.
func (f *File) IsDue(state FileState) bool {
	if !state.same(f.seen) || f.since.IsZero() {
		f.seen, f.since = state, time.Now()
		return false
	}
	known := f.settled && state.same(f.done) && (!f.IsRejected() || state.same(f.rejectedFrom))
	return !known && time.Since(f.since) >= fileSettle
}
