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

// take spends one new name of the host's registered domain, or returns the wait
// for the next one. ran is the time by the monotonic clock.
func (p *pacer) take(host string, ran time.Duration) (wait time.Duration, ok bool) {
	domain := hosts.RegisteredDomain(host)
	p.mu.Lock()
	defer p.mu.Unlock()
	l, ok := p.lanes.Get(domain)
	if !ok {
		l = new(pace.Lane)
		p.lanes.Put(domain, l, emptySooner)
	}
	next, ok := l.Take(ran, pace.PerDomain())
	return next - ran, ok
}

// emptySooner reports whether lane a is as good as new sooner than lane b.
func emptySooner(a, b *pace.Lane) bool { return a.EmptyAt() < b.EmptyAt() }

// startPace keeps first issuances in the background within Let's Encrypt's
// limits. Handshakes do not wait for it.
type startPace struct {
	every time.Duration // time between two orders; 0 means no pacing

	mu      sync.Mutex
	account pace.Lane
	domains map[string]*pace.Lane
}

// place is a first issuance's place in the lanes: that of its registered domain,
// then the account's. It is reserved in the second when its turn in the first
// has come: an issuance that waits for its domain must not occupy a place among
// the account's orders.
type place struct {
	stage placeStage
	turn  time.Duration // in the stage's lane, by the monotonic clock
}

type placeStage uint8

const (
	placeNone    placeStage = iota
	placeDomain             // waits for its turn in the domain's lane
	placePassed             // that has come; only a success uses it up
	placeAccount            // waits for its turn in the account's lane
)

// maxLate is how late a turn may be used: workers may be busy. Turns that passed
// unused, while the process was frozen or the CA out of service, would otherwise
// be used all at once.
const maxLate = 10 * time.Minute

// wait returns how long the first issuance for host must still wait. If it may
// begin, wait returns 0 and its turn in the account's lane is used up. ran is
// the time by the monotonic clock.
func (p *startPace) wait(host string, pl *place, ran time.Duration) time.Duration {
	if p.every == 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch waiting := pl.stage == placeDomain || pl.stage == placeAccount; {
		case !waiting:
			pl.turn = p.reserve(host, pl.stage, ran)
			pl.stage++
		case pl.turn > ran:
			return pl.turn - ran
		case pl.turn < ran-maxLate:
			pl.stage-- // its turn has passed
		case pl.stage == placeDomain:
			pl.stage = placePassed
		default:
			pl.stage = placePassed
			return 0
		}
	}
}

// reserve takes a turn in the lane after a stage. p.mu is held.
func (p *startPace) reserve(host string, after placeStage, ran time.Duration) (turn time.Duration) {
	if after == placePassed {
		return p.account.Reserve(ran, pace.Limit{Burst: pace.OrderBurst, Every: p.every})
	}
	domain := hosts.RegisteredDomain(host)
	l := p.domains[domain]
	if l == nil {
		l = p.add(domain, ran)
	}
	return l.Reserve(ran, pace.PerDomain())
}

// add adds the lane of a domain. If there are many, it looks at a few others, and
// removes those that are empty: so most of those that are left are not, and no
// addition takes long. The allowlist limits their number. p.mu is held.
func (p *startPace) add(domain string, ran time.Duration) *pace.Lane {
	if p.domains == nil {
		p.domains = make(map[string]*pace.Lane)
	}
	if len(p.domains) >= maxPaced {
		looks := 8
		for other, l := range p.domains { // begins anywhere
			if l.EmptyAt() <= ran {
				delete(p.domains, other)
			}
			if looks--; looks == 0 {
				break
			}
		}
	}
	l := new(pace.Lane)
	p.domains[domain] = l
	return l
}
