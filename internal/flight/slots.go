package flight

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Slots limits how much runs at the same time. Suspects hold at most a quarter
// of the slots, so the others are never starved. It is safe for concurrent use.
type Slots struct {
	limit int

	mu       sync.Mutex
	used     int
	suspects int        // those among used
	queue    [][]*claim // by priority
}

// Claim describes a request for a slot.
type Claim struct {
	Priority int  // 0 goes first
	Suspect  bool // likely to fail and to take long
}

type claim struct {
	Claim
	granted chan struct{}
}

// NewSlots returns Slots with the given limit and number of priorities.
func NewSlots(limit, priorities int) *Slots {
	return &Slots{limit: limit, queue: make([][]*claim, priorities)}
}

// Acquire waits for a slot. If err is nil, release must be called once.
func (s *Slots) Acquire(ctx context.Context, who Claim) (release func(), err error) {
	c := &claim{Claim: who, granted: make(chan struct{})}
	s.mu.Lock()
	s.queue[who.Priority] = append(s.queue[who.Priority], c)
	s.grant()
	s.mu.Unlock()

	select {
	case <-c.granted:
		return func() { s.release(c) }, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	i := slices.Index(s.queue[who.Priority], c)
	if i >= 0 {
		s.queue[who.Priority] = slices.Delete(s.queue[who.Priority], i, i+1)
	}
	s.mu.Unlock()
	if i < 0 { // granted at the last moment
		s.release(c)
	}
	return nil, fmt.Errorf("no issuance slot became free: %w", context.Cause(ctx))
}

func (s *Slots) release(c *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	if c.Suspect {
		s.suspects--
	}
	s.grant()
}

// grant hands out free slots. s.mu is held.
func (s *Slots) grant() {
	for p := range s.queue {
		s.queue[p] = slices.DeleteFunc(s.queue[p], func(c *claim) bool {
			if s.used >= s.limit || c.Suspect && s.suspects >= max(1, s.limit/4) {
				return false
			}
			s.used++
			if c.Suspect {
				s.suspects++
			}
			close(c.granted)
			return true
		})
	}
}

// Load returns how many slots are in use and how many claims wait.
func (s *Slots) Load() (used, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queue {
		waiting += len(q)
	}
	return s.used, waiting
}
