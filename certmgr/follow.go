package certmgr

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/flight"
)

// follower looks at entries of the Cache that another machine is about to write. It
// reads all of them at once, from time to time, as long as there are any.
type follower struct {
	*env
	calls *flight.Callouts // one at a time

	mu      sync.Mutex
	follows map[*follow]bool
	running bool
}

// follow is the interest in some entries.
type follow struct {
	keys    []string
	changed chan struct{} // capacity 1: an entry is another one than at the last look

	seen map[string][sha256.Size]byte // only the follower's goroutine uses it
}

// followEvery is the time between two looks, with jitter: a certificate is served
// here within a second of its being stored.
const followEvery = 500 * time.Millisecond

// followMost is how long an issuance follows other machines before it is given up.
// Each of them has its attemptTimeout.
const followMost = 3 * lockTimeout

func newFollower(e *env, calls *flight.Callouts) *follower {
	return &follower{env: e, calls: calls, follows: make(map[*follow]bool)}
}

// add begins to look at entries.
func (f *follower) add(keys []string) *follow {
	w := &follow{keys: keys, changed: make(chan struct{}, 1), seen: make(map[string][sha256.Size]byte)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.follows[w] = true
	if !f.running {
		f.running = f.tasks.Go(f.run)
	}
	return w
}

func (f *follower) remove(w *follow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.follows, w)
}

// all returns who is interested, or nil if nobody is: then run ends.
func (f *follower) all() map[*follow]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running = len(f.follows) > 0
	return maps.Clone(f.follows)
}

func (f *follower) run(ctx context.Context) {
	for {
		wait := followEvery - followEvery/5 + rand.N(followEvery/5)
		if flight.Sleep(ctx, wait) != nil {
			return
		}
		follows := f.all()
		if len(follows) == 0 {
			return
		}
		f.look(ctx, follows)
	}
}

// look reads the entries, and tells those who are interested in the changed ones.
// What cannot be read is read again the next time: whoever is interested tries to
// take the lock again, too, which reports a Cache that fails.
func (f *follower) look(ctx context.Context, follows map[*follow]bool) {
	var keys []string
	for w := range follows {
		keys = append(keys, w.keys...)
	}
	timed, cancel := context.WithTimeout(ctx, cacheTimeout)
	defer cancel()
	values, _ := flight.CallOut(timed, f.calls, "entries of other machines", func(ctx context.Context) (map[string][]byte, error) {
		return cache.GetMany(ctx, f.settings.cache, keys)
	})
	for w := range follows {
		if w.isChanged(values) {
			select {
			case w.changed <- struct{}{}:
			default:
			}
		}
	}
}

func (w *follow) isChanged(values map[string][]byte) (changed bool) {
	for _, key := range w.keys {
		data, ok := values[key]
		if !ok {
			continue
		}
		sum := sha256.Sum256(data)
		if was, ok := w.seen[key]; !ok || was != sum {
			w.seen[key] = sum
			changed = true
		}
	}
	return changed
}

// entriesToFollow returns the keys of the entries that have a subject's certificate
// once there is one.
func (f *fleet) entriesToFollow(sub subject) []string {
	if !sub.group {
		return []string{sub.cacheKey()}
	}
	return []string{groupCacheKey(f.namesOf(sub), sub.alg), groupRecordKey(sub)}
}

// followOther waits for the machine that issues in place of this one. It returns the
// certificate, or nil when the lock may be free again: then this machine tries.
func followOther(ctx context.Context, is *issuer, i *issuance, at *elsewhere) (*certificate, error) {
	f := is.locks.fleet
	i.goElsewhere(at)
	if i.following.IsZero() {
		i.following = time.Now()
	}
	if at.owner != i.told {
		i.told = at.owner
		is.audit.Emit(i.event(i.req.asker.event(audit.Event{
			Kind:    audit.IssuanceElsewhere,
			Stage:   audit.StageQueue,
			Reason:  i.req.reason + "; " + at.owner + " has the lock",
			RetryAt: at.until,
		})))
	}
	if time.Since(i.following) > followMost {
		return nil, at.refusal
	}
	w := f.follower.add(f.entriesToFollow(i.req.sub))
	defer f.follower.remove(w)
	again := time.NewTimer(at.again + rand.N(followEvery))
	defer again.Stop()
	for {
		select {
		case <-w.changed:
			if cert, _ := f.arrived(ctx, i); cert != nil {
				return cert, nil
			}
		case <-again.C:
			return nil, nil
		case <-ctx.Done():
			return nil, is.notBegun(ctx, i, context.Cause(ctx))
		}
	}
}

// arrived returns the certificate that another machine has stored since the
// issuance was asked for, or nil. An error wraps ErrCache or ErrKeySource.
func (f *fleet) arrived(ctx context.Context, i *issuance) (*certificate, error) {
	cert, err := f.loader.read(ctx, i.req.sub, i.req.grant, freshly)
	switch {
	case errors.Is(err, ErrCacheMiss):
		return nil, nil
	case err != nil:
		return nil, err
	case i.had != nil && i.had.leaf.Equal(cert.leaf):
		return nil, nil
	}
	if !f.isForAll(ctx, i.req.sub, cert) {
		return nil, nil // a group's, from before it had all of its names
	}
	return cert, nil
}
