package certmgr

import (
	"context"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/auditqueue"
)

// progress tracks each running Start.
type progress struct {
	audit *auditqueue.Queue

	mu     sync.Mutex
	starts map[*startProgress]bool
}

// startProgress is the progress of one Start. progress.mu guards it.
type startProgress struct {
	missing map[string]bool // hosts without a certificate
	total   int
	news    chan struct{} // capacity 1: there was progress since the last event
	done    chan struct{} // closed when nothing is missing
}

// progressEvery is the shortest time between two events about a running Start.
const progressEvery = 10 * time.Second

func (p *progress) begin(hosts []string) *startProgress {
	sp := &startProgress{missing: make(map[string]bool, len(hosts)), total: len(hosts), news: make(chan struct{}, 1), done: make(chan struct{})}
	for _, host := range hosts {
		sp.missing[host] = true
	}
	if len(hosts) == 0 {
		close(sp.done)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.starts == nil {
		p.starts = make(map[*startProgress]bool)
	}
	p.starts[sp] = true
	return sp
}

func (p *progress) end(sp *startProgress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.starts, sp)
}

// wants reports whether a Start waits for a host.
func (p *progress) wants(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for sp := range p.starts {
		if sp.missing[host] {
			return true
		}
	}
	return false
}

// have records that a host has a certificate in memory, or is no longer wanted.
func (p *progress) have(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for sp := range p.starts {
		if !sp.missing[host] {
			continue
		}
		delete(sp.missing, host)
		if len(sp.missing) == 0 {
			p.tell(sp)
			close(sp.done)
			continue
		}
		select {
		case sp.news <- struct{}{}:
		default:
		}
	}
}

// watch reports the progress of a Start from time to time. It returns when
// nothing is missing or ctx ends.
func (p *progress) watch(ctx context.Context, sp *startProgress) {
	timer := time.NewTimer(progressEvery)
	defer timer.Stop()
	for {
		select { // no timer runs while there is nothing to report
		case <-sp.news:
			timer.Reset(progressEvery)
		case <-sp.done:
			return
		case <-ctx.Done():
			return
		}
		select {
		case <-timer.C:
			p.report(sp)
		case <-sp.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// report reports the progress of a Start now.
func (p *progress) report(sp *startProgress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.starts[sp] && len(sp.missing) > 0 {
		p.tell(sp)
	}
}

// tell emits the event. p.mu is held; emit does not block.
func (p *progress) tell(sp *startProgress) {
	p.audit.Emit(audit.Event{Kind: audit.StartProgress, Count: sp.total - len(sp.missing), Total: sp.total})
}
