package certmgr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nostall/nostall/internal/text"
)

// AllowlistFile returns a list that is kept in a file: one name or wildcard a
// line; "#" begins a comment, also after a name. If the file cannot be read, or any
// line is invalid, the error names each of those by its number and why, the first
// 100 of them if they are more, and no list is returned.
//
// The Managers that use the list look at the file every 2 seconds. When it has
// changed, and was the same twice in a row, it is read, and its names take the
// place of the whole list in one step, as by Replace (EventAllowlistReloaded). A
// file that is missing, unreadable or in part invalid is refused whole, the list
// stays as it is, and EventAllowlistRejected says which line is wrong. A file
// without any name is refused too, as one that was just cut short looks like that,
// unless a comment in it says "# empty". It is best to write a new file and rename
// it: one that is written in place for longer than that may be read half done.
//
// Add, Remove and Replace change the list and not the file: what they did lasts
// until the file is read again. A list that no Manager uses is read again by
// Reload only. The file must be a regular one, or a link to one, and not be larger
// than 256 MiB.
func AllowlistFile(path string) (*Allowlist, error) {
	a := &Allowlist{file: &hostsFile{path: path}}
	if err := a.Reload(); err != nil {
		return nil, err
	}
	return a, nil
}

// hostsFile is the file of an Allowlist. Allowlist.changing guards what follows
// path.
type hostsFile struct {
	path string

	begun   uint64 // counts readings
	applied uint64 // the reading that the list is from

	settled bool // the file was read as done says, and need not be while it is like that
	done    fileState

	seen  fileState // by the last look
	since time.Time // when it was first seen like that

	rejected     string // the last error that was reported; empty after a good reading
	rejectedFrom fileState
}

const (
	// filePoll is how often Managers look at the file.
	filePoll = 2 * time.Second

	// fileSettle is how long a file has to look the same before it is read: it may
	// be in the middle of being written. It is less than filePoll because timers
	// are not exact.
	fileSettle = filePoll * 3 / 4

	// fileFresh is how long ago a file must have been written for its time to tell
	// the next change: some file systems know it to 2 seconds only.
	fileFresh = 4 * time.Second

	// maxHostsFile bounds the file: about 10 million names.
	maxHostsFile = 256 << 20

	// fileTimeout bounds one look at the file, and its reading, in the background.
	fileTimeout = time.Minute
)

// fileState is what a look at a file tells. A file that was replaced or written is
// in another one.
type fileState struct {
	info  os.FileInfo // nil: it could not be looked at
	cause error       // why
}

func (s fileState) same(t fileState) bool {
	if s.info == nil || t.info == nil {
		return s.info == nil && t.info == nil && text.Of(s.cause) == text.Of(t.cause)
	}
	return os.SameFile(s.info, t.info) && s.info.Size() == t.info.Size() && s.info.ModTime().Equal(t.info.ModTime()) && s.info.Mode() == t.info.Mode()
}

func lookAt(path string) fileState {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{cause: err}
	}
	return fileState{info: info}
}

// reading is one reading of the file.
type reading struct {
	number  uint64
	at      time.Time
	stable  bool // the file has looked the same for a while
	state   fileState
	entries []string
	err     error
	content bool // err is about what is in the file: it stays while the file does
}

// settles reports whether the state of the file tells the next change.
func (r *reading) settles() bool {
	return r.stable || r.state.info != nil && r.at.Sub(r.state.info.ModTime()) >= fileFresh
}

// errChanging: the file was written while it was read.
var errChanging = errors.New("it was changed while it was read; try again")

// Reload reads the file of a list that AllowlistFile made, now, whether or not it
// has changed and whether or not a Manager uses it. If the file is refused the list
// stays as it is, and the error is that of AllowlistFile. Of two readings at the
// same time the one that began later holds. For a list without a file it is an
// error.
func (a *Allowlist) Reload() error {
	if a == nil || a.file == nil {
		return errors.New("certmgr: this Allowlist has no file to reload; AllowlistFile makes one that has")
	}
	return a.reload(context.Background(), nil)
}

// reload reads the file and takes it over. If a state is given, in which the file
// has been for a while, only if it is that.
func (a *Allowlist) reload(ctx context.Context, stable *fileState) error {
	f := a.file
	a.changing.Lock()
	f.begun++
	r := reading{number: f.begun, at: time.Now(), stable: stable != nil}
	a.changing.Unlock()

	r.read(ctx, f.path)
	if stable != nil && !r.state.same(*stable) {
		return errChanging // somebody began to write it a moment ago
	}
	if r.err != nil {
		if ctx.Err() == nil && !errors.Is(r.err, errChanging) {
			a.reject(r)
		}
		return r.err
	}
	set := collectNames(r.entries)
	a.changing.Lock()
	defer a.changing.Unlock()
	if r.number < f.applied {
		return nil // a later one was quicker
	}
	f.applied = r.number
	f.settled, f.done = r.settles(), r.state
	c := difference(a.names.Load(), set)
	c.reason = "read from " + fileName(f.path)
	c.count = set.size
	c.reloaded = f.rejected != "" || len(c.added)+len(c.removed) > 0
	f.rejected = ""
	a.publish(set, c)
	return nil
}

// reject tells the watchers of a bad reading, once for each state of the file.
func (a *Allowlist) reject(r reading) {
	f := a.file
	a.changing.Lock()
	defer a.changing.Unlock()
	if r.content {
		f.settled, f.done = r.settles(), r.state
	}
	text := r.err.Error()
	if r.number < f.applied || text == f.rejected && r.state.same(f.rejectedFrom) {
		return
	}
	f.rejected, f.rejectedFrom = text, r.state
	a.publish(nil, change{rejected: r.err})
}

// hangs is told that a look at the file does not come back.
func (a *Allowlist) hangs(err error) {
	a.changing.Lock()
	r := reading{number: a.file.begun, err: &fileError{err}}
	a.changing.Unlock()
	a.reject(r)
}

// poll reads the file if it has changed and is likely to be complete.
func (a *Allowlist) poll(ctx context.Context) {
	if state := lookAt(a.file.path); a.isDue(state) {
		a.reload(ctx, &state) // the error is an event
	}
}

// isDue reports whether the file in its present state has to be read.
func (a *Allowlist) isDue(state fileState) bool {
	f := a.file
	a.changing.Lock()
	defer a.changing.Unlock()
	if !state.same(f.seen) || f.since.IsZero() {
		f.seen, f.since = state, time.Now()
		return false
	}
	known := f.settled && state.same(f.done) && (f.rejected == "" || state.same(f.rejectedFrom))
	return !known && time.Since(f.since) >= fileSettle
}

// read fills in the rest of r.
func (r *reading) read(ctx context.Context, path string) {
	r.state = lookAt(path)
	if r.state.info == nil {
		r.err = &fileError{r.state.cause}
		return
	}
	if r.err = readable(path, r.state.info); r.err != nil {
		r.content = true
		return
	}
	// What was a regular file a moment ago is opened; a FIFO would wait for its writer.
	file, err := os.Open(path)
	if err != nil {
		r.err = &fileError{err}
		return
	}
	defer file.Close()
	r.readFrom(ctx, path, file)
}

func (r *reading) readFrom(ctx context.Context, path string, file *os.File) {
	info, err := file.Stat()
	if err == nil {
		r.state = fileState{info: info}
		err = readable(path, info)
	}
	if err == nil {
		r.entries, r.err = parseHosts(ctx, path, io.LimitReader(file, maxHostsFile))
		info, err = file.Stat()
	}
	switch {
	case err != nil:
		r.err = &fileError{err}
	case !r.state.same(fileState{info: info}):
		r.err = &fileError{fmt.Errorf("%s: %w", path, errChanging)}
	case r.err != nil:
		_, unread := r.err.(*fileError)
		r.content = !unread
	}
}

// readable returns why a file cannot be an Allowlist's.
func readable(path string, info os.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return &fileError{fmt.Errorf("%s is not a regular file (its mode is %v)", path, info.Mode())}
	case info.Size() > maxHostsFile:
		return &fileError{fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), maxHostsFile)}
	}
	return nil
}

// fileError is the error of a file that could not be read.
type fileError struct{ cause error }

func (e *fileError) Error() string {
	return text.OneLine("certmgr: allowlist file: "+e.cause.Error(), text.MaxError)
}
func (e *fileError) Unwrap() error { return e.cause }
