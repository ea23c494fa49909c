package flight

import (
	"context"
	"sync"
)

// Pending counts work in flight. Unlike with a sync.WaitGroup, Wait takes a
// context, and the count may grow meanwhile. The zero value is ready. It is
// safe for concurrent use.
type Pending struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // made by Wait; closed when n is zero
}

// Add counts one more.
func (p *Pending) Add() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
}

// Done undoes one Add.
func (p *Pending) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n--
	if p.n == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

// Wait returns 0 as soon as nothing is in flight. If ctx ends first, it returns
// the count.
func (p *Pending) Wait(ctx context.Context) (left int) {
	p.mu.Lock()
	if p.n == 0 {
		p.mu.Unlock()
		return 0
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	idle := p.idle
	p.mu.Unlock()
	select {
	case <-idle:
		return 0
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}
