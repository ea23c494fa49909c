// Package certfiles reads an operator's own certificates from PEM files, and
// notices when they change. It may know files and what a certificate and its
// key look like in PEM. It knows neither handshakes nor who serves what it
// finds. It starts no goroutine.
package certfiles

import (
	"context"
	"crypto"
	"errors"
	"slices"
	"sync"
	"time"
)

// Pair is a certificate with its key, or a file that cannot be used.
type Pair struct {
	Path  string // the file that holds the certificate
	Key   crypto.Signer
	Chain [][]byte // in DER, the leaf first
	Err   error    // why the file cannot be used, with its path; nil if Key and Chain are set
}

// Files are PEM files and folders of them. They are safe for concurrent use.
type Files struct {
	paths []string

	mu      sync.Mutex // not held while files are read
	last    map[string]reading
	begun   uint64 // counts looks
	applied uint64 // the look that last is from
}

// reading is what was read of a group. It is replaced, not modified.
type reading struct {
	pairs   []Pair
	states  []fileState // of the files that pairs are from
	settled bool        // the next change of the files will change their states

	seen  []fileState // at the last look
	since time.Time   // when they were first seen in that state, by the monotonic clock
}

const (
	// settle is how long files must stay unchanged before they are read again:
	// they may still be being written.
	settle = 1500 * time.Millisecond

	// fresh is how long files must stay unchanged until their modification times
	// reveal the next change: some file systems store them to 2 seconds only.
	fresh = 4 * time.Second
)

// New returns Files for paths: files, and folders whose files are read, and
// those of the folders in them.
func New(paths ...string) *Files { return &Files{paths: slices.Clone(paths)} }

// Look returns the certificates. Files that it has not seen before are read at
// once; those that have changed are read when they have stayed the same for a
// while, and until then what was read before counts. An error is about all of
// them: a folder cannot be read, there are too many files, or ctx has ended.
func (f *Files) Look(ctx context.Context) ([]Pair, error) {
	if len(f.paths) == 0 {
		return nil, errors.New("no file and no folder is named")
	}
	f.mu.Lock()
	f.begun++
	number, last := f.begun, f.last
	f.mu.Unlock()

	groups, err := groupsOf(f.paths, last)
	if err != nil {
		return nil, err
	}
	now, next := time.Now(), make(map[string]reading)
	var all []Pair
	for _, g := range groups {
		r, err := g.look(ctx, last, now)
		if err != nil {
			return nil, err
		}
		next[g.folder] = r
		all = append(all, r.pairs...)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if number > f.applied {
		f.last, f.applied = next, number
	}
	return all, nil
}

// look returns what counts as read of a group now.
func (g group) look(ctx context.Context, last map[string]reading, now time.Time) (reading, error) {
	r, known := last[g.folder]
	if !known {
		pairs, _, err := g.pairs(ctx)
		return reading{pairs: pairs, states: g.files, seen: g.files, since: now}, err
	}
	if !sameStates(g.files, r.seen) {
		r.seen, r.since = g.files, now
		return r, nil
	}
	rests := now.Sub(r.since)
	if r.settled && sameStates(g.files, r.states) || rests < settle {
		return r, nil
	}
	pairs, unread, err := g.pairs(ctx)
	if err != nil {
		return reading{}, err
	}
	if after := g.lookAgain(); !sameStates(after, g.files) {
		r.seen, r.since = after, now // a write began a moment ago
		return r, nil
	}
	r.pairs, r.states = pairs, g.files
	r.settled = rests >= fresh && !unread
	return r, nil
}
