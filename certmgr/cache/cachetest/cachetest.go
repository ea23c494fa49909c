// Package cachetest checks an implementation of cache.Cache against the
// contract in that interface's documentation. The caches of package cache pass
// it, and so must any other cache used with certmgr:
//
//	func TestCache(t *testing.T) {
//		cachetest.Run(t, func(t *testing.T) cache.Cache {
//			return mycache.New(t.TempDir())
//		})
//	}
//
// It works as well for a cache written for autocert, whose interface has the
// same methods. Run it with -race: some mistakes show in no other way.
//
// [RunLocker] checks locks: see cache.Locker.
package cachetest

import (
	"context"
	"testing"

	"github.com/nostall/nostall/certmgr/cache"
)

// Run runs each case of the suite as a subtest of t. A failing case says what
// was seen and which rule of the contract that breaks.
//
// newCache is called once for each case, with the subtest's own T. It returns
// an empty cache that shares nothing with the other cases' caches. It may
// register clean-ups on its T, and may skip or fail the subtest if the storage
// is not available.
//
// No case depends on how fast the machine is. If a cache hangs, the time-out of go
// test ends the test and its goroutine dump shows where. No value is larger than 1 MiB and
// the suite makes about a thousand calls, so it can also be run against a
// server.
func Run(t *testing.T, newCache func(t *testing.T) cache.Cache) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := c.check(t.Context(), newCache(t)); err != nil {
				t.Errorf("%v\nThe rule: %s", err, c.rule)
			}
		})
	}
}

// A testCase checks one rule. It returns an error instead of failing a test, so
// that the suite itself can be tested with broken caches.
type testCase struct {
	name  string
	rule  string // what the contract requires, and what goes wrong without it
	check func(ctx context.Context, c cache.Cache) error
}

// cases is never changed.
var cases = []testCase{
	{
		name: "MissIsErrMiss",
		rule: "Get of a key without an entry returns an error for which errors.Is(err, cache.ErrMiss) holds. " +
			"With any other error certmgr takes the cache for broken and never orders the certificate.",
		check: checkMiss,
	},
	{
		name: "GetReturnsWhatWasPut",
		rule: "Get returns exactly the bytes that were put. " +
			"Values are opaque: not text, not valid UTF-8, not ended by a zero byte, and may be empty.",
		check: checkValues,
	},
	{
		name: "LargeValue",
		rule: "A value of 1 MiB is stored whole. " +
			"Where a store has a smaller limit, Put must return an error rather than cut a value short.",
		check: checkLargeValue,
	},
	{
		name: "PutOverwrites",
		rule: "Put replaces the entry whole, also with a shorter or an empty value. " +
			"Otherwise a renewed certificate is followed by the remains of the old one, or is never stored.",
		check: checkOverwrite,
	},
	{
		name: "Delete",
		rule: "After Delete the key is a miss, every other key is as it was, and the key can be put again. " +
			"Challenge answers are deleted after use, and must not take certificates with them.",
		check: checkDelete,
	},
	{
		name: "DeleteOfNothing",
		rule: "Delete of a key without an entry returns nil. " +
			"Several machines clean up after the same challenge.",
		check: checkDeleteMissing,
	},
	{
		name: "KeysAreKeptApart",
		rule: "All keys are stored as they are and apart from each other: no character is a wildcard, a path or the " +
			"end of the key, case matters, and no key is cut off. Otherwise a host is served with the key of another.",
		check: checkKeys,
	},
	{
		name: "ReturnedSliceIsTheCallers",
		rule: "The slice that Get returns belongs to the caller. " +
			"If the cache keeps a reference, a caller that wipes a private key destroys the entry.",
		check: checkReturnedSlice,
	},
	{
		name: "PutKeepsNoReference",
		rule: "Put takes a copy of its data. " +
			"If it keeps a reference, a caller that uses its buffer again changes the entry.",
		check: checkInputSlice,
	},
	{
		name: "ConcurrentUse",
		rule: "All methods may be called at the same time, and Put is atomic: while an entry is replaced, Get returns " +
			"the old value or the new one, whole, and never a miss. A miss would order a certificate that is there.",
		check: checkConcurrent,
	},
	{
		name: "EndedContextGet",
		rule: "Get under a context that has ended returns an error, and that error is not a miss. " +
			"Taking a time-out for a miss orders a certificate, or registers an account, that exists already.",
		check: checkEndedGet,
	},
	{
		name: "EndedContextPut",
		rule: "Put under a context that has ended returns an error and leaves the old value whole. " +
			"A program that shuts down must not lose the certificate that it was about to replace.",
		check: checkEndedPut,
	},
	{
		name: "EndedContextDelete",
		rule: "Delete under a context that has ended returns an error. " +
			"A caller with a bound on its time relies on it.",
		check: checkEndedDelete,
	},
	{
		name: "ListsItsKeys",
		rule: "A cache that is a cache.Lister lists each key once and no other, also while entries are put and deleted, " +
			"and ends with an error when it cannot. Entries that a list omits are never rewritten.",
		check: checkLister,
	},
	{
		name: "ReadsManyAtOnce",
		rule: "A cache that is itself a cache.BatchGetter returns the values of those keys that have an entry, as Get does, " +
			"and an error if it cannot tell. Warm-up takes what is not in the result for missing.",
		check: checkBatch,
	},
	{
		name: "TellsOfChanges",
		rule: "A cache that is a cache.Watcher tells each watcher of a key after the entry was put or deleted, waits for none, and " +
			"closes the channel when its context ends. Those that wait for a certificate rely on it.",
		check: checkWatcher,
	},
}
