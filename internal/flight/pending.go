package flight

import (
	"context"
	"sync"
)

// Pending counts what is under way. Unlike a sync.WaitGroup it can be waited for
// under a context, and may grow while it is. The zero value is ready. It is safe for
// concurrent use.
type Pending struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // made by Wait; closed when n is zero
}

// Add counts something that begins.
func (p *Pending) Add() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
}

// Done is called once for each Add.
func (p *Pending) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n--
	if p.n == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

// Wait returns 0 as soon as nothing is under way, or how much still is when ctx has
// ended.
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
