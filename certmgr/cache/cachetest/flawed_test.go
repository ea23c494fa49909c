package cachetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// flaws says what is wrong with a locker. Without any it is a good one.
type flaws struct {
	noExclusion   bool // a name may be locked twice
	readThenWrite bool // Lock looks, and then takes what somebody else may have taken

	tokenZero       bool // the first token is 0
	tokenAgain      bool // the counter is removed with the lock
	tokenPerClient  bool // each client counts for itself
	tokensOverlap   bool // a token is that of the lease before
	ownerCut        bool // at 64 bytes
	remainingTTL    bool // Remaining is longer than the lease
	noHeldError     bool // a lock that is taken is another error
	leaseAndError   bool // a lock that is taken returns a lease as well
	relock          bool // who has the lock can take it again
	never           bool // leases do not end by themselves
	seconds         bool // ttls are whole seconds
	lateBy          time.Duration
	localClock      bool // the end of a lease is compared with the machine's clock
	freeOnDrop      bool // leases of a client that is cut off end at once
	extendLonger    bool // Extend never makes a lease shorter
	extendNothing   bool // Extend does nothing
	extendRevives   bool // a lease that nobody followed can be extended
	extendStranger  bool // Extend looks at the name alone
	unlockStranger  bool // Unlock looks at the name alone
	unlockTwice     bool // Unlock of an ended lease is no error
	unlockNothing   bool
	openPut         bool // Put ignores guards
	openDelete      bool // Delete ignores guards
	lostIsSilent    bool // a fenced Put returns no error
	fenceByTime     bool // a guard is good until the end of the lease, whoever has the lock
	fenceByLargest  bool // a guard is good until a larger token was given
	fenceByEntry    bool // a guard is good until a larger token has written the entry
	entryForgets    bool // and Put without a lease removes that token
	compareThenPut  bool // two steps
	tokenOnly       bool // a guard of any lease with the right token is good
	ignoreForeign   bool // a lease of another kind is no lease
	tokenInValue    bool // the token is stored in the entry
	guardSticks     bool // an entry that was put under guard needs one
	locksAreEntries bool // under the name
	locksAreListed  bool // under a key of their own
	foldedNames     bool // case does not matter
	cutNames        bool // at 64 bytes
	noArguments     bool // arguments are not checked
	extendAnything  bool // nor that of Extend
	deaf            bool // contexts are ignored
	endedIsLost     bool // a context that has ended is ErrLost
	endedIsHeld     bool // or a HeldError
	hangs           bool // calls do not return while the store hangs
	watchOwn        bool // watchers are told of their own machine's changes alone
}

// flawedStore is what the machines share.
type flawedStore struct {
	flaws
	cache.Memory // the entries, and watchers
	hanging      chan struct{}

	mu      sync.Mutex
	locks   map[string]flawedLock
	tokens  map[string]int64
	written map[string]int64 // the token that has written an entry, see fenceByEntry
}

type flawedLock struct {
	token int64
	owner string
	end   time.Time
	by    *flawed
}

func newFlawedStore(f flaws) *flawedStore {
	return &flawedStore{flaws: f, locks: make(map[string]flawedLock), tokens: make(map[string]int64), written: make(map[string]int64)}
}

// flawed is one client.
type flawed struct {
	*flawedStore
	off    time.Duration // of the clock
	tokens int64         // see tokenPerClient
	own    cache.Memory  // see watchOwn
}

func (c *flawed) now() time.Time {
	if c.localClock {
		return time.Now().Add(c.off)
	}
	return time.Now()
}

// enter is the way to the store of each call.
func (c *flawed) enter(ctx context.Context) error {
	c.mu.Lock()
	hanging := c.hanging
	c.mu.Unlock()
	if hanging != nil {
		done := ctx.Done()
		if c.hangs {
			done = nil
		}
		select {
		case <-hanging:
		case <-done:
		}
	}
	switch err := ctx.Err(); {
	case err == nil || c.deaf:
		return nil
	case c.endedIsLost:
		return cache.ErrLost
	case c.endedIsHeld:
		return &cache.HeldError{}
	default:
		return err
	}
}

func (c *flawed) lockName(name string) string {
	if c.foldedNames {
		name = strings.ToLower(name)
	}
	if c.cutNames {
		name = name[:min(len(name), 64)]
	}
	return name
}

func (c *flawed) Lock(ctx context.Context, name, owner string, ttl time.Duration) (cache.Lease, error) {
	if err := cache.CheckLock(name, owner, ttl); err != nil && !c.noArguments {
		return nil, err
	}
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	name = c.lockName(name)
	if err := c.taken(name, owner); err != nil {
		if c.leaseAndError {
			return &flawedLease{client: c, name: name}, err
		}
		return nil, err
	}
	if c.readThenWrite {
		time.Sleep(10 * time.Microsecond)
	} else {
		defer c.mu.Unlock()
	}
	if c.readThenWrite {
		c.mu.Lock()
		defer c.mu.Unlock()
	}
	if c.ownerCut {
		owner = owner[:min(len(owner), 64)]
	}
	token := c.nextToken(name)
	c.locks[name] = flawedLock{token, owner, c.now().Add(c.rounded(ttl)), c}
	if c.locksAreEntries {
		c.Memory.Put(ctx, name, []byte("locked"))
	}
	if c.locksAreListed {
		c.Memory.Put(ctx, name+"+lock", []byte("locked"))
	}
	return &flawedLease{client: c, name: name, token: token}, nil
}

// taken returns an error if a lock is. If not it leaves mu locked, except with
// readThenWrite.
func (c *flawed) taken(name, owner string) error {
	c.mu.Lock()
	l, ok := c.locks[name]
	free := !ok || !c.never && !c.now().Before(l.end.Add(c.lateBy)) || c.noExclusion || c.relock && l.owner == owner
	if free {
		if c.readThenWrite {
			c.mu.Unlock()
		}
		return nil
	}
	defer c.mu.Unlock()
	if c.noHeldError {
		return errors.New("duplicate key value violates unique constraint")
	}
	left := max(l.end.Sub(c.now()), 0)
	if c.remainingTTL {
		left += time.Minute
	}
	return &cache.HeldError{Name: name, Owner: l.owner, Remaining: left}
}

func (c *flawed) nextToken(name string) int64 {
	if c.tokenPerClient {
		c.tokens++
		return c.tokens
	}
	if c.tokenAgain {
		if _, ok := c.locks[name]; !ok {
			c.flawedStore.tokens[name] = 0
		}
	}
	if c.tokenZero && c.flawedStore.tokens[name] == 0 {
		c.flawedStore.tokens[name] = -1
	}
	c.flawedStore.tokens[name]++
	if c.tokensOverlap {
		return c.flawedStore.tokens[name]/2 + 1
	}
	return c.flawedStore.tokens[name]
}

func (c *flawed) rounded(ttl time.Duration) time.Duration {
	if c.seconds {
		return ttl.Truncate(time.Second)
	}
	return ttl
}

// fence is called with mu locked.
func (c *flawed) fence(ctx context.Context, key string) error {
	guard := cache.Guarded(ctx)
	if guard == nil {
		if c.guardSticks && c.written[key] > 0 {
			return errors.New("the entry was put under guard")
		}
		if c.entryForgets {
			delete(c.written, key)
		}
		return nil
	}
	l, ok := guard.(*flawedLease)
	if !ok || l.client.flawedStore != c.flawedStore {
		switch {
		case c.ignoreForeign:
			return nil
		case c.tokenOnly:
			l = &flawedLease{client: c, name: c.lockName("example.com"), token: guard.Token()}
		default:
			return errors.New("a lease of another store")
		}
	}
	now := c.locks[l.name]
	lost := now.token != l.token || !c.now().Before(now.end)
	switch {
	case c.fenceByTime:
		lost = !c.now().Before(now.end)
	case c.fenceByLargest:
		lost = c.flawedStore.tokens[l.name] > l.token
	case c.fenceByEntry:
		lost = c.written[key] > l.token
	}
	if lost {
		return cache.ErrLost
	}
	c.written[key] = l.token
	return nil
}

func (c *flawed) change(ctx context.Context, key string, open bool, f func() error) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !open {
		if err := c.fence(ctx, key); err != nil {
			if c.lostIsSilent && errors.Is(err, cache.ErrLost) {
				return nil
			}
			return err
		}
	}
	if c.compareThenPut && cache.Guarded(ctx) != nil {
		c.mu.Unlock()
		time.Sleep(rand.N(50 * time.Microsecond))
		c.mu.Lock()
	}
	return f()
}

func (c *flawed) Get(ctx context.Context, key string) ([]byte, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	return c.Memory.Get(ctx, key)
}

func (c *flawed) Put(ctx context.Context, key string, data []byte) error {
	return c.change(ctx, key, c.openPut, func() error {
		if l := cache.Guarded(ctx); l != nil && c.tokenInValue {
			data = append([]byte{byte(l.Token())}, data...)
		}
		c.own.Put(ctx, key, data)
		return c.Memory.Put(context.Background(), key, data)
	})
}

func (c *flawed) Delete(ctx context.Context, key string) error {
	return c.change(ctx, key, c.openDelete, func() error {
		c.own.Delete(ctx, key)
		return c.Memory.Delete(context.Background(), key)
	})
}

func (c *flawed) Watch(ctx context.Context, key string) (<-chan struct{}, error) {
	if c.watchOwn {
		return c.own.Watch(ctx, key)
	}
	return c.Memory.Watch(ctx, key)
}

type flawedLease struct {
	client *flawed
	name   string
	token  int64
}

func (l *flawedLease) Token() int64 { return l.token }

func (l *flawedLease) Extend(ctx context.Context, ttl time.Duration) error {
	c := l.client
	if ttl < cache.MinLease && !c.extendAnything {
		return errors.New("too short")
	}
	if err := c.enter(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	lock, ok := c.locks[l.name]
	if !ok || !c.extendStranger && lock.token != l.token || !c.extendRevives && !c.now().Before(lock.end) {
		return cache.ErrLost
	}
	end := c.now().Add(ttl)
	if c.extendNothing || c.extendLonger && end.Before(lock.end) {
		return nil
	}
	lock.end = end
	c.locks[l.name] = lock
	return nil
}

func (l *flawedLease) Unlock(ctx context.Context) error {
	c := l.client
	if err := c.enter(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	lock, ok := c.locks[l.name]
	if !ok || !c.unlockStranger && lock.token != l.token || !c.now().Before(lock.end) {
		if c.unlockTwice {
			return nil
		}
		return cache.ErrLost
	}
	if !c.unlockNothing {
		delete(c.locks, l.name)
	}
	if c.locksAreEntries {
		c.Memory.Delete(ctx, l.name)
	}
	return nil
}
