//go:build !race

// Only one goroutine runs in these tests, so the race detector would see nothing.

package table

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// content returns all items of a table that nobody changes meanwhile.
func content(t *testing.T, tab *Table[string, int]) map[string]int {
	t.Helper()
	all := make(map[string]int)
	for key, v := range tab.All() {
		if _, twice := all[key]; twice {
			t.Fatalf("a walk visits %q twice", key)
		}
		all[key] = *v
	}
	return all
}

// slotsOf returns the number of slots of a table, and of its largest shard.
func slotsOf(t *Table[string, int]) (all, most int) {
	for i := range t.shards {
		if slots := t.shards[i].slots.Load(); slots != nil {
			all += len(*slots)
			most = max(most, len(*slots))
		}
	}
	return all, most
}

// TestLikeAMap makes a million random operations on a table and on a plain map.
// The table grows, stays as large as it is, shrinks, and does so again with keys
// for few shards, where searches are long and deleted items many.
func TestLikeAMap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	tab, model := New[string, int](), make(map[string]int)
	var crowd []string // keys of two shards
	for _, key := range append(names(40_000), "") {
		if h, _ := tab.locate(key); h>>(64-shardBits) < 2 || key == "" {
			crowd = append(crowd, key)
		}
	}
	for _, phase := range []struct {
		keys []string
		puts int // of 100 changes
		ops  int
	}{
		{names(10_000), 90, 150_000}, {names(10_000), 50, 250_000}, {names(10_000), 5, 150_000},
		{crowd, 80, 150_000}, {crowd, 50, 250_000}, {crowd, 2, 50_000},
	} {
		for op := range phase.ops {
			key := phase.keys[rng.IntN(len(phase.keys))]
			switch n := rng.IntN(200); {
			case n >= 100:
				have, ok := get(tab, key)
				if want, has := model[key]; have != want || ok != has {
					t.Fatalf("Get(%q) = %v, %v; want %v, %v", key, have, ok, want, has)
				}
			case n < phase.puts:
				put(tab, key, op)
				model[key] = op
			default:
				tab.Delete(key)
				delete(model, key)
			}
			if tab.Len() != len(model) {
				t.Fatalf("Len() = %d, want %d", tab.Len(), len(model))
			}
			if op%50_000 == 0 && !maps.Equal(content(t, tab), model) {
				t.Fatal("a walk does not visit what is there")
			}
		}
		if !maps.Equal(content(t, tab), model) {
			t.Fatal("a walk does not visit what is there")
		}
	}
}

// Names that come and go leave nothing, and the table is never larger than its
// items need.
func TestSizeFollowsItems(t *testing.T) {
	tab, keys := New[string, int](), names(100_000)
	const window = 1000
	for i, key := range keys {
		put(tab, key, i)
		if i >= window {
			tab.Delete(keys[i-window])
		}
		if all, _ := slotsOf(tab); i%1000 == 0 && all > 16*window {
			t.Fatalf("%d slots for %d items", all, tab.Len())
		}
	}
	for _, key := range keys {
		tab.Delete(key)
	}
	if all, _ := slotsOf(tab); all != 0 {
		t.Errorf("%d slots for no item", all)
	}
}

// A rebuild moves one shard of many, so that none takes long.
func TestShardsAreSmall(t *testing.T) {
	tab := New[string, int]()
	for i, key := range names(200_000) {
		put(tab, key, i)
	}
	if _, most := slotsOf(tab); most > 8192 {
		t.Errorf("a shard of 200,000 items has %d slots, want 4096", most)
	}
}
