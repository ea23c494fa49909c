package certmgr

import (
	"sync"
	"time"

	"github.com/nostall/nostall/internal/hosts"
)

// pacer bounds the new names below one registered domain that are issued for
// without anybody having vouched for them: those under wildcards and under
// AllowAnyHost. Let's Encrypt issues 50 certificates for a registered domain
// in 7 days and refills one every 202 minutes; half of that is left to the
// hosts on the list and to renewals.
type pacer struct {
	mu      sync.Mutex
	buckets map[string]*bucket
}

type bucket struct {
	tokens  float64
	updated time.Time
}

const (
	paceBurst  = 25
	paceRefill = 2 * 202 * time.Minute
	maxBuckets = 10_000
)

func newPacer() *pacer { return &pacer{buckets: make(map[string]*bucket)} }

// take spends one new name of the host's registered domain, or returns when
// the next one is due.
func (p *pacer) take(host string, now time.Time) (ok bool, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	domain := hosts.RegisteredDomain(host)
	b := p.buckets[domain]
	if b == nil {
		if len(p.buckets) >= maxBuckets {
			p.evict(now)
		}
		b = &bucket{tokens: paceBurst, updated: now}
		p.buckets[domain] = b
	}
	b.refill(now)
	if b.tokens < 1 {
		return false, now.Add(time.Duration((1 - b.tokens) * float64(paceRefill)))
	}
	b.tokens--
	return true, time.Time{}
}

func (b *bucket) refill(now time.Time) {
	if d := now.Sub(b.updated); d > 0 {
		b.tokens = min(paceBurst, b.tokens+float64(d)/float64(paceRefill))
	}
	b.updated = now
}

// evict drops full buckets, which are as good as none, or failing that the
// fullest of a few.
func (p *pacer) evict(now time.Time) {
	var fullest string
	most, seen := -1.0, 0
	for domain, b := range p.buckets {
		b.refill(now)
		if b.tokens > most {
			fullest, most = domain, b.tokens
		}
		if seen++; seen == 64 || most >= paceBurst {
			break
		}
	}
	delete(p.buckets, fullest)
}
