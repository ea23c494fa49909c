package certmgr

import (
	"sync"
	"time"

	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/pace"
)

// maxPaced is the largest number of registered domains that are paced.
const maxPaced = 10_000

// pacer limits the new names for each registered domain that clients may have
// chosen: those under wildcards and under AllowAnyHost.
type pacer struct {
	mu    sync.Mutex
	lanes capped.Map[string, *pace.Lane] // by registered domain
}

func newPacer() *pacer {
	return &pacer{lanes: capped.Map[string, *pace.Lane]{Max: maxPaced}}
}

// take spends one new name of the host's registered domain, or returns when the
// next one is due.
func (p *pacer) take(host string, now time.Time) (next time.Time, ok bool) {
	domain := hosts.RegisteredDomain(host)
	p.mu.Lock()
	defer p.mu.Unlock()
	l, ok := p.lanes.Get(domain)
	if !ok {
		l = new(pace.Lane)
		p.lanes.Put(domain, l, emptySooner)
	}
	return l.Take(now, pace.PerDomain())
}

// emptySooner reports whether lane a is as good as new sooner than lane b.
func emptySooner(a, b *pace.Lane) bool { return a.EmptyAt().Before(b.EmptyAt()) }

// startPace keeps first issuances in the background within Let's Encrypt's
// limits. Handshakes do not wait for it.
type startPace struct {
	every time.Duration // time between two orders; 0 means no pacing

	mu      sync.Mutex
	account pace.Lane
	domains map[string]*pace.Lane
	pruneAt int // the number of domains at which to prune
}

// pacing is the state of a first issuance's reservations. Each is made when the
// previous one is used: an issuance that waits for its domain must not occupy a
// place among the account's orders.
type pacing uint8

const (
	paceNone    pacing = iota
	paceDomain         // reserved for the registered domain
	paceAccount        // and for the account: nothing more to wait for
)

// next makes the next reservation for host and returns its kind and time.
func (p *startPace) next(host string, have pacing, now time.Time) (pacing, time.Time) {
	if p.every == 0 {
		return paceAccount, now
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if have != paceNone {
		return paceAccount, p.account.Reserve(now, pace.Limit{Burst: pace.OrderBurst, Every: p.every})
	}
	domain := hosts.RegisteredDomain(host)
	l := p.domains[domain]
	if l == nil {
		if len(p.domains) >= p.pruneAt {
			p.prune(now)
		}
		l = new(pace.Lane)
		p.domains[domain] = l
	}
	return paceDomain, l.Reserve(now, pace.PerDomain())
}

// prune removes the domains whose lanes are empty. The allowlist limits the
// number of domains.
func (p *startPace) prune(now time.Time) {
	if p.domains == nil {
		p.domains = make(map[string]*pace.Lane)
	}
	for domain, l := range p.domains {
		if !l.EmptyAt().After(now) {
			delete(p.domains, domain)
		}
	}
	p.pruneAt = max(maxPaced, 2*len(p.domains))
}

// clockWentBack drops all reservations; their holders reserve again.
func (p *startPace) clockWentBack(time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.account, p.domains, p.pruneAt = pace.Lane{}, nil, 0
}
