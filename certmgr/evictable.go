package certmgr

import (
	"time"

	"github.com/nostall/nostall/internal/capped"
)

// evictable holds the hosts in memory that make way for others when there are
// too many: those that are not in Hosts by their exact names. A stranger may
// have made them up, whoever allows them. The one that makes way is among those
// that no client has asked for lately. Its certificate stays in the Cache and
// comes back with its next visitor, as does its renewal. memory.mu guards it.
type evictable struct {
	isListed  func(host string) bool
	onEvicted func(certs []*certificate) // called without a lock; set before the first use, must not block

	untrusted capped.Map[string, *hostEntry]
	byPolicy  capped.Map[string, *hostEntry]
}

// The largest numbers of such hosts in memory, where each takes 4 to 8 KB. A
// HostPolicy is trusted with more hosts than a wildcard or AllowAnyHost, as it
// may know them one by one, but it may also allow any name.
const (
	maxUntrustedHosts = 100_000
	maxPolicyHosts    = 250_000
)

func newEvictable(isListed func(host string) bool) evictable {
	return evictable{
		isListed:  isListed,
		onEvicted: func([]*certificate) {},
		untrusted: capped.Map[string, *hostEntry]{Max: maxUntrustedHosts},
		byPolicy:  capped.Map[string, *hostEntry]{Max: maxPolicyHosts},
	}
}

// enter enters a host in memory, or its new entry. It returns the host that has
// to make way, if any.
func (ev *evictable) enter(host string, e *hostEntry) (evicted string, full bool) {
	switch e.trust {
	case untrusted:
		ev.byPolicy.Delete(host)
		evicted, full = ev.untrusted.Put(host, e, seenBefore)
	case byPolicy:
		ev.untrusted.Delete(host)
		evicted, full = ev.byPolicy.Put(host, e, seenBefore)
	default:
		ev.leave(host)
	}
	return evicted, full && !ev.isListed(evicted) // it may have been listed since it was loaded
}

// leave removes a host.
func (ev *evictable) leave(host string) {
	ev.untrusted.Delete(host)
	ev.byPolicy.Delete(host)
}

// tellEvicted tells of the certificates of a host that has made way. No lock is
// held.
func (ev *evictable) tellEvicted(certs []*certificate) {
	if len(certs) > 0 {
		ev.onEvicted(certs)
	}
}

func seenBefore(a, b *hostEntry) bool { return a.seen() < b.seen() }

// seen returns when a client last asked for the host, as far as is known to
// visitEvery or by a question to HostPolicy, or when the host entered service,
// in Unix seconds.
func (e *hostEntry) seen() int64 {
	seen := e.yes.Load() / int64(time.Second)
	for alg := range e.visited {
		seen = max(seen, e.visited[alg].Load())
	}
	for _, t := range e.since {
		if !t.IsZero() {
			seen = max(seen, t.Unix())
		}
	}
	return seen
}
