package certmgr

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// priority orders those who wait for an issuance slot.
type priority uint8

const (
	urgentRenewal priority = iota // less than 1/6 of the lifetime is left
	withVisitor                   // a host that somebody vouched for, with a handshake waiting
	openVisitor                   // a host whose name may be a stranger's choice
	background                    // renewal in time, Start

	priorities = 4
)

// slots caps the issuances that run at the same time (Manager.MaxIssuing).
// Suspects, hosts that failed before or that nobody vouched for, hold at most
// half of them, so that they cannot keep the others from theirs.
type slots struct {
	limit int

	mu       sync.Mutex
	used     int
	suspects int // of used
	queue    [priorities][]*ticket
}

type ticket struct {
	suspect bool
	granted chan struct{}
}

// acquire waits for a slot. release must be called once if err is nil.
func (s *slots) acquire(ctx context.Context, p priority, suspect bool) (release func(), err error) {
	t := &ticket{suspect: suspect, granted: make(chan struct{})}
	s.mu.Lock()
	s.queue[p] = append(s.queue[p], t)
	s.grant()
	s.mu.Unlock()

	release = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.used--
		if t.suspect {
			s.suspects--
		}
		s.grant()
	}
	select {
	case <-t.granted:
		return release, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	i := slices.Index(s.queue[p], t)
	if i >= 0 {
		s.queue[p] = slices.Delete(s.queue[p], i, i+1)
	}
	s.mu.Unlock()
	if i < 0 { // granted at the last moment
		release()
	}
	return nil, fmt.Errorf("no issuance slot became free: %w", context.Cause(ctx))
}

// grant hands free slots out. s.mu is held.
func (s *slots) grant() {
	for p := range s.queue {
		s.queue[p] = slices.DeleteFunc(s.queue[p], func(t *ticket) bool {
			if s.used >= s.limit || t.suspect && s.suspects >= max(1, s.limit/2) {
				return false
			}
			s.used++
			if t.suspect {
				s.suspects++
			}
			close(t.granted)
			return true
		})
	}
}

// load returns how many slots are used and how many wait.
func (s *slots) load() (used, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queue {
		waiting += len(q)
	}
	return s.used, waiting
}
