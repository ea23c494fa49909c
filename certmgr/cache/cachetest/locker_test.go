package cachetest

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

func TestLockerSuiteAcceptsAGoodOne(t *testing.T) {
	RunLockerInBubble(t, func(*testing.T) *Store { return newFlawedStore(flaws{}).store() })
}

// An object store keeps the token in the entry.
func TestLockerSuiteAcceptsALateOne(t *testing.T) {
	RunLockerInBubble(t, func(*testing.T) *Store { return newFlawedStore(flaws{fenceByEntry: true}).store() })
}

// In real time too, where machines are slow and leases take their time. The cases
// are those of RunLocker, side by side: they wait most of the time.
func TestLockerSuiteInRealTime(t *testing.T) {
	newStore := func(*testing.T) *Store { return newFlawedStore(flaws{}).store() }
	for _, c := range lockerCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, newStore)
		})
	}
}

func TestLockerSuiteFindsWhatIsBroken(t *testing.T) {
	tests := []struct {
		name  string
		flaws flaws
		want  []string // the cases that must fail; others may
	}{
		{"no exclusion", flaws{noExclusion: true}, []string{"OneGetsTheLock", "OneAtATime", "HeldErrorSaysByWhom"}},
		{"a read and then a write", flaws{readThenWrite: true}, []string{"OneGetsTheLock"}},
		{"the first token is zero", flaws{tokenZero: true}, []string{"TokensIncrease"}},
		{"Unlock removes the counter", flaws{tokenAgain: true}, []string{"TokensIncrease"}},
		{"each client has a counter", flaws{tokenPerClient: true}, []string{"TokensIncrease"}},
		{"tokens repeat", flaws{tokensOverlap: true}, []string{"TokensIncrease", "OneAtATime"}},
		{"the owner is cut off", flaws{ownerCut: true}, []string{"HeldErrorSaysByWhom"}},
		{"a lease seems to last longer", flaws{remainingTTL: true}, []string{"HeldErrorSaysByWhom"}},
		{"no HeldError", flaws{noHeldError: true}, []string{"OneGetsTheLock", "HeldErrorSaysByWhom"}},
		{"a lease and an error", flaws{leaseAndError: true}, []string{"HeldErrorSaysByWhom"}},
		{"the holder can lock again", flaws{relock: true}, []string{"OneGetsTheLock"}},
		{"leases do not end", flaws{never: true}, []string{"LeasesEnd", "PausedHolder"}},
		{"whole seconds", flaws{seconds: true}, []string{"LeasesEnd"}},
		{"leases end late", flaws{lateBy: time.Second}, []string{"LeasesEnd"}},
		{"the machine's clock", flaws{localClock: true}, []string{"ClocksDiffer"}},
		{"a lock ends with the connection", flaws{freeOnDrop: true}, []string{"DeadHolder"}},
		{"Extend makes no lease shorter", flaws{extendLonger: true}, []string{"ExtendKeepsTheLock"}},
		{"Extend does nothing", flaws{extendNothing: true}, []string{"ExtendKeepsTheLock"}},
		{"Extend revives a lease", flaws{extendRevives: true}, []string{"EndedLeaseIsLost"}},
		{"Extend of the successor's lease", flaws{extendStranger: true}, []string{"EndedLeaseIsLost"}},
		{"Unlock of the successor's lease", flaws{unlockStranger: true}, []string{"EndedLeaseIsLost"}},
		{"Unlock twice", flaws{unlockTwice: true}, []string{"EndedLeaseIsLost"}},
		{"Unlock does nothing", flaws{unlockNothing: true}, []string{"TokensIncrease", "EndedLeaseIsLost"}},
		{"no fencing in Put", flaws{openPut: true}, []string{"PausedHolder", "LostLeaseNeverWrites", "ForeignLeases", "FencingIsOneStep"}},
		{"no fencing in Delete", flaws{openDelete: true}, []string{"PausedHolder", "LostLeaseNeverWrites", "ForeignLeases"}},
		{"a fenced Put is silent", flaws{lostIsSilent: true}, []string{"PausedHolder", "LostLeaseNeverWrites"}},
		{"fencing by time", flaws{fenceByTime: true}, []string{"PausedHolder", "LostLeaseNeverWrites"}},
		{"fencing by the largest token", flaws{fenceByLargest: true}, []string{"LostLeaseNeverWrites"}},
		{"late, and forgetful", flaws{fenceByEntry: true, openPut: true}, []string{"PausedHolder"}},
		{"a comparison and then a write", flaws{compareThenPut: true}, []string{"FencingIsOneStep"}},
		{"the token alone counts", flaws{tokenOnly: true}, []string{"ForeignLeases"}},
		{"foreign leases are ignored", flaws{ignoreForeign: true}, []string{"ForeignLeases"}},
		{"the token is in the value", flaws{tokenInValue: true}, []string{"HolderWrites"}},
		{"once guarded, always guarded", flaws{guardSticks: true}, []string{"HolderWrites"}},
		{"locks are entries", flaws{locksAreEntries: true}, []string{"NamesAreNoKeys"}},
		{"locks are listed", flaws{locksAreListed: true}, []string{"NamesAreNoKeys"}},
		{"names in lower case", flaws{foldedNames: true}, []string{"NamesAreKeptApart"}},
		{"names are cut off", flaws{cutNames: true}, []string{"NamesAreKeptApart"}},
		{"arguments are not checked", flaws{noArguments: true}, []string{"Arguments"}},
		{"that of Extend is not checked", flaws{extendAnything: true}, []string{"Arguments"}},
		{"contexts are ignored", flaws{deaf: true}, []string{"EndedContexts", "HangingStore"}},
		{"a context that has ended is ErrLost", flaws{endedIsLost: true}, []string{"EndedContexts", "HangingStore"}},
		{"a context that has ended is a HeldError", flaws{endedIsHeld: true}, []string{"EndedContexts", "HangingStore"}},
		{"calls hang", flaws{hangs: true}, []string{"HangingStore"}},
		{"watchers see one machine", flaws{watchOwn: true}, []string{"WatchSeesOtherMachines"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			failed := lockerVerdict(t, func(*testing.T) *Store { return newFlawedStore(tt.flaws).store() })
			for _, name := range tt.want {
				if failed[name] == nil {
					t.Errorf("case %s passed; these failed: %v", name, slices.Sorted(maps.Keys(failed)))
				}
			}
		})
	}
}

// lockerVerdict runs every case over new stores and returns the errors by name.
func lockerVerdict(t *testing.T, newStore func(t *testing.T) *Store) map[string]error {
	failed := make(map[string]error)
	for _, c := range lockerCases {
		synctest.Test(t, func(t *testing.T) {
			f := &fleet{t: t, store: newStore(t), newStore: newStore}
			if c.skip != nil && c.skip(f.store) != "" {
				return
			}
			if err := c.check(t.Context(), f); err != nil {
				failed[c.name] = err
			}
		})
	}
	return failed
}

// store returns the store with everything that the suite can use.
func (s *flawedStore) store() *Store {
	open := func(off time.Duration) *flawed { return &flawed{flawedStore: s, off: off} }
	return &Store{
		Open:   func(*testing.T) cache.Cache { return open(0) },
		OpenAt: func(_ *testing.T, off time.Duration) cache.Cache { return open(off) },
		Drop: func(_ *testing.T, c cache.Cache) {
			if !s.freeOnDrop {
				return
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			maps.DeleteFunc(s.locks, func(_ string, l flawedLock) bool { return l.by == c })
		},
		Hang: func(*testing.T) func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.hanging = make(chan struct{})
			return func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				close(s.hanging)
				s.hanging = nil
			}
		},
		Late: s.fenceByEntry,
	}
}
