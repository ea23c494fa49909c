package certmgr

import (
	"sync"
	"time"

	"github.com/nostall/nostall/internal/hosts"
)

// startPace keeps first issuances in the background within Let's Encrypt's
// limits: 300 new orders for an account in 3 hours, and 50 certificates for a
// registered domain in 7 days. Half of that is left to visitors, who do not wait
// for a pace, and to renewals.
type startPace struct {
	every time.Duration // between two orders; 0: no pace

	mu      sync.Mutex
	account lane
	domains map[string]*lane
	pruneAt int // so many domains
}

const (
	startPaceBurst  = 150              // of 300
	startPaceEvery  = 72 * time.Second // one comes back each 36 s
	domainPaceBurst = 25               // of 50
	domainPaceEvery = 2 * 202 * time.Minute
)

// lane hands out moments: so many at once, and then one at a time. It holds when
// it would be empty (the generic cell rate algorithm), so that those who come
// later are told a later moment and need not ask again.
type lane struct{ empty time.Time }

// reserve returns the next free moment.
func (l *lane) reserve(now time.Time, burst int, every time.Duration) time.Time {
	at := later(now, l.empty.Add(-time.Duration(burst-1)*every))
	l.empty = later(l.empty, at).Add(every)
	return at
}

// pacing is how far a first issuance has come with its reservations: each is
// made when the one before is used, since what waits for its domain must not
// hold a place among the account's orders.
type pacing uint8

const (
	paceNone    pacing = iota
	paceDomain         // reserved for the registered domain
	paceAccount        // and for the account: nothing more to wait for
)

// next makes the next reservation for host and returns what it is and when.
func (p *startPace) next(host string, have pacing, now time.Time) (pacing, time.Time) {
	if p.every == 0 {
		return paceAccount, now
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if have == paceNone {
		domain := hosts.RegisteredDomain(host)
		l := p.domains[domain]
		if l == nil {
			if len(p.domains) >= p.pruneAt {
				p.prune(now)
			}
			l = new(lane)
			p.domains[domain] = l
		}
		return paceDomain, l.reserve(now, domainPaceBurst, domainPaceEvery)
	}
	return paceAccount, p.account.reserve(now, startPaceBurst, p.every)
}

// prune forgets the domains whose lanes are empty. Those of names on the list
// are bounded by it.
func (p *startPace) prune(now time.Time) {
	if p.domains == nil {
		p.domains = make(map[string]*lane)
	}
	for domain, l := range p.domains {
		if !l.empty.After(now) {
			delete(p.domains, domain)
		}
	}
	p.pruneAt = max(maxBuckets, 2*len(p.domains))
}

// reset forgets all reservations.
func (p *startPace) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.account, p.domains, p.pruneAt = lane{}, nil, 0
}
