package cache

import (
	"os"
	"path/filepath"
	"sync"
	"time"
)

// hold is the open lease file of a lease, which its process has locked until the
// lease ends. The system ends that lock with the process. So the others need not
// wait for the end of a lease whose holder was killed: a server that starts again
// goes on at once.
type hold struct {
	mu    sync.Mutex
	file  *os.File
	timer *time.Timer // closes file, if nobody calls end
}

// newHold returns the hold of a lease file that was locked, for ttl, or one that
// does nothing.
func newHold(file *os.File, ttl time.Duration) *hold {
	h := &hold{file: file}
	if file != nil {
		h.mu.Lock() // the timer may run at once
		defer h.mu.Unlock()
		h.timer = time.AfterFunc(ttl, h.end)
	}
	return h
}

// last makes the hold end ttl from now.
func (h *hold) last(ttl time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.file != nil {
		h.timer.Reset(ttl)
	}
}

func (h *hold) end() {
	if f := h.leave(); f != nil {
		f.Close() // nothing was written to it that matters now
	}
}

// leave returns the file, which is no longer the hold's, or nil.
func (h *hold) leave() *os.File {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.file
	if f != nil {
		h.timer.Stop()
		h.file = nil
	}
	return f
}

// thisHost returns the host name for lease files, or "".
func thisHost() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// isAbandoned reports whether the holder of a lease that lasts is certainly dead: it
// ran on this machine, and its lease file is not locked. Other machines' locks may
// not be seen here.
func (l leaseFile) isAbandoned(path string) bool {
	if !locksRenamedFiles || l.Host == "" || l.Host != thisHost() {
		return false
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	locked, err := tryLockFile(f)
	return err == nil && locked
}

// createLease puts a new lease file in the place of an old one, in one step, and
// returns it open and locked, or nil where open files cannot be renamed. Neither it
// nor what rewriteLease writes is flushed to disk: it says nothing of use after a
// power failure.
func createLease(path string, l leaseFile) (_ *os.File, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), tempPrefix+"*"+tempSuffix)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close() // the first cause is reported
			_ = os.Remove(f.Name())
		}
	}()
	if err := l.write(f); err != nil {
		return nil, err
	}
	if !locksRenamedFiles {
		if err := f.Close(); err != nil {
			return nil, err
		}
		return nil, os.Rename(f.Name(), path)
	}
	if _, err := tryLockFile(f); err != nil {
		return nil, err
	}
	return f, os.Rename(f.Name(), path)
}

// rewriteLease changes a lease file in place, so that its lock stays. Only those who
// have locked the stripe file read it.
func rewriteLease(path string, l leaseFile) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = l.write(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
