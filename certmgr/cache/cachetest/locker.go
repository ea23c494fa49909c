package cachetest

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// Store is an empty store that several machines use, for [RunLocker]. Only Open
// must be set.
type Store struct {
	// Open returns a cache that uses the store as another machine does: with
	// connections of its own, if it has any. It is called several times. The
	// caches are used until the test ends, by several goroutines.
	Open func(t *testing.T) cache.Cache

	// OpenAt is Open on a machine whose clock is off by a duration. Set it if the
	// implementation takes a clock. Whether it uses the clock of its machine
	// where the store's is needed is not tested otherwise.
	OpenAt func(t *testing.T, off time.Duration) cache.Cache

	// Drop cuts a cache of Open off from the store, as the death of its machine
	// would: it closes the connections, for example. The cache is not used again.
	Drop func(t *testing.T, c cache.Cache)

	// Hang keeps the store from answering until resume is called, once: it stops
	// the server's process, for example. How the calls of the caches end then is
	// not tested without it.
	Hang func(t *testing.T) (resume func())

	// Slack is how much later than its ttl a lease may end, if not by 250 ms, in a
	// store whose clock is coarse. It never ends earlier.
	Slack time.Duration

	// Late says that the store makes use of the exception for those that cannot
	// compare a lock when they write: a lost lease may write an entry until its
	// successor has written it.
	Late bool
}

// RunLocker checks a cache's [cache.Locker], and what its Put and Delete do under
// [cache.Guard], each case as a subtest of t:
//
//	func TestLocks(t *testing.T) {
//		cachetest.RunLocker(t, func(t *testing.T) *cachetest.Store {
//			url := startServer(t)
//			return &cachetest.Store{Open: func(t *testing.T) cache.Cache { return mycache.New(url) }}
//		})
//	}
//
// newStore is called once for each case, and by some twice, with the subtest's own
// T. It returns an empty store that shares nothing with the others. The locker is
// found by [cache.LockerOf], so a wrapper is tested together with what it wraps.
//
// Leases of a second and a half are waited for in real time: the suite takes about
// 20 seconds, but no case depends on how fast the machine is. See
// [RunLockerInBubble] for stores within the process.
func RunLocker(t *testing.T, newStore func(t *testing.T) *Store) {
	t.Helper()
	for _, c := range lockerCases {
		t.Run(c.name, func(t *testing.T) { c.run(t, newStore) })
	}
}

// RunLockerInBubble is [RunLocker] with each case in a bubble of testing/synctest,
// for stores within the process whose only clock is package time's: it takes no
// time.
func RunLockerInBubble(t *testing.T, newStore func(t *testing.T) *Store) {
	t.Helper()
	for _, c := range lockerCases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(t, newStore) })
		})
	}
}

// A lockerCase checks one rule, like a testCase.
type lockerCase struct {
	name  string
	rule  string
	skip  func(s *Store) string // why the case cannot run with a store, or ""; may be nil
	check func(ctx context.Context, f *fleet) error
}

func (c *lockerCase) run(t *testing.T, newStore func(t *testing.T) *Store) {
	f := &fleet{t: t, store: newStore(t), newStore: newStore}
	if c.skip != nil {
		if why := c.skip(f.store); why != "" {
			t.Skip(why)
		}
	}
	if err := c.check(t.Context(), f); err != nil {
		t.Errorf("%v\nThe rule: %s", err, c.rule)
	}
}

// lockerCases is never changed.
var lockerCases = []lockerCase{
	{
		name: "OneGetsTheLock",
		rule: "Of many that lock a name at the same time exactly one gets it, and the others get a *cache.HeldError. " +
			"Two that have it order the same certificate twice.",
		check: checkOneGetsIt,
	},
	{
		name: "OneAtATime",
		rule: "A name has one lease at a time, each with a larger token than the one before. " +
			"Lock is one step of the store, never a read and then a write.",
		check: checkOneAtATime,
	},
	{
		name: "HeldErrorSaysByWhom",
		rule: "The error of a lock that is taken is a *cache.HeldError with the name, the owner as it was given, and how long " +
			"the lease lasts: not less than nothing, and not more than its ttl. Operators are shown it.",
		check: checkHeldError,
	},
	{
		name: "TokensIncrease",
		rule: "Each lease of a name has a larger token than all before it, at least 1: also after Unlock, after the end of a lease, " +
			"and for a client that has just connected. With a token that was used before, a lost lease can write.",
		check: checkTokens,
	},
	{
		name: "LeasesEnd",
		rule: "A lock is free again when its ttl is over, not before, and not later than by Slack. " +
			"A ttl is not rounded down to whole seconds.",
		check: checkLeasesEnd,
	},
	{
		name: "ExtendKeepsTheLock",
		rule: "Extend makes the lease end ttl from now on, be that later or earlier than before. " +
			"An order takes longer than a lease.",
		check: checkExtend,
	},
	{
		name: "EndedLeaseIsLost",
		rule: "Extend and Unlock of a lease that has ended fail with cache.ErrLost, whether somebody else has the lock or not, " +
			"and leave the lock of its successor alone. A lease that has ended never comes back.",
		check: checkEndedLease,
	},
	{
		name: "DeadHolder",
		rule: "If a client is cut off, its leases end when their time is over, neither sooner nor never. " +
			"It may be cut off and alive.",
		skip: func(s *Store) string {
			if s.Drop == nil {
				return "the store has no Drop: that a client is cut off is not tested"
			}
			return ""
		},
		check: checkDeadHolder,
	},
	{
		name: "HolderWrites",
		rule: "With a lease that has its lock, Put and Delete do under cache.Guard what they do without, with any key. " +
			"The entry has the same bytes, and is written and deleted without a lease as before.",
		check: checkHolderWrites,
	},
	{
		name: "PausedHolder",
		rule: "When a lease was lost and its successor has written an entry, Put and Delete under cache.Guard of the lost one fail with " +
			"cache.ErrLost and leave the entry alone, also after the successor's Unlock. A machine that was paused must not " +
			"overwrite the certificate of the one that took over.",
		check: checkPausedHolder,
	},
	{
		name: "LostLeaseNeverWrites",
		rule: "Put and Delete under cache.Guard of a lease that has ended fail with cache.ErrLost and change nothing: " +
			"before anybody else has the lock, before its successor has written, and whatever was written since. " +
			"Set Late if the store cannot compare the lock when it writes.",
		skip: func(s *Store) string {
			if s.Late {
				return "the store is Late: a lost lease may write until its successor has written"
			}
			return ""
		},
		check: checkLostLease,
	},
	{
		name: "FencingIsOneStep",
		rule: "The comparison of the token and the change of the entry are one step of the store: a Put that has compared " +
			"while its lease had the lock does not write after the lease's successor has written.",
		check: checkOneStep,
	},
	{
		name: "ForeignLeases",
		rule: "Put and Delete under cache.Guard of a lease of another store, or of a made-up one, fail and change nothing, whatever its " +
			"token is. It says nothing about a lock of this store.",
		check: checkForeignLeases,
	},
	{
		name: "NamesAreNoKeys",
		rule: "The name of a lock is no key: the entry of the same name is neither made, changed nor deleted by a lock, " +
			"nor the lock by Put and Delete, and locks are not listed as keys.",
		check: checkNamesAreNoKeys,
	},
	{
		name:  "NamesAreKeptApart",
		rule:  "Any two names are two locks, also if they differ by case alone or are as long as a name can be.",
		check: checkNamesApart,
	},
	{
		name: "Arguments",
		rule: "An empty name, an owner of more than cache.MaxOwner bytes and a ttl below cache.MinLease are errors, and lock " +
			"nothing. cache.CheckLock tests for them. Extend with such a ttl is an error too, and the lease goes on.",
		check: checkArguments,
	},
	{
		name: "EndedContexts",
		rule: "Under a context that has ended Lock, Extend, Unlock, Put and Delete return an error. It is neither a " +
			"*cache.HeldError nor cache.ErrLost, since the store was not asked.",
		check: checkEndedContexts,
	},
	{
		name: "HangingStore",
		rule: "When the store does not answer, each call returns soon after its context has ended, with an error that is neither a " +
			"*cache.HeldError nor cache.ErrLost nor a miss.",
		skip: func(s *Store) string {
			if s.Hang == nil {
				return "the store has no Hang: that it does not answer is not tested"
			}
			return ""
		},
		check: checkHangingStore,
	},
	{
		name: "ClocksDiffer",
		rule: "Leases end by the store's clock. That of a machine may be wrong by minutes, in either direction.",
		skip: func(s *Store) string {
			if s.OpenAt == nil {
				return "the store has no OpenAt: a machine whose clock is wrong is not tested"
			}
			return ""
		},
		check: checkClocks,
	},
	{
		name: "LeaseIsSafeForConcurrentUse",
		rule: "A locker and its leases may be used by several goroutines at the same time. " +
			"A lease is extended while an entry is put under its guard.",
		check: checkConcurrentLease,
	},
	{
		name: "WatchSeesOtherMachines",
		rule: "A cache that is a cache.Watcher tells of entries that other machines put and delete. " +
			"Those that wait for another machine's certificate would wait for their poll.",
		check: checkWatchOfOthers,
	},
}

// fleet is the machines of one case.
type fleet struct {
	t        *testing.T // of the case; only to open stores and caches
	store    *Store
	newStore func(t *testing.T) *Store
}

// machine is one client of the store. Its name is the owner of its leases.
type machine struct {
	cache.Cache
	locker cache.Locker
	name   string
	slack  time.Duration
}

// machine opens the store as another machine.
func (f *fleet) machine(name string) (*machine, error) {
	return f.wrap(f.store, f.store.Open(f.t), name)
}

// two opens the store as two machines.
func (f *fleet) two() (a, b *machine, err error) {
	if a, err = f.machine("machine a"); err == nil {
		b, err = f.machine("machine b")
	}
	return a, b, err
}

func (f *fleet) wrap(s *Store, c cache.Cache, name string) (*machine, error) {
	locker, ok := cache.LockerOf(c)
	if !ok {
		return nil, fmt.Errorf("%T is no cache.Locker, and wraps none", c)
	}
	slack := s.Slack
	if slack == 0 {
		slack = 250 * time.Millisecond
	}
	return &machine{c, locker, name, slack}, nil
}
