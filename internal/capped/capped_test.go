package capped

import (
	"maps"
	"testing"
)

func less(a, b int) bool { return a < b }

// The map never exceeds its bound, and a new entry is always stored.
func TestMapKeepsToItsBound(t *testing.T) {
	for _, limit := range []int{0, 1, 3, 100} {
		m := Map[int, int]{Max: limit}
		for i := range 1000 {
			m.Put(i, i, nil)
			if n := m.Len(); n > max(limit, 1) {
				t.Fatalf("%d entries, want %d at most", n, limit)
			}
			if v, ok := m.Get(i); !ok || v != i {
				t.Fatalf("the new entry is %d, %v, want %d", v, ok, i)
			}
		}
	}
}

// The evicted key is returned and gone, and is the least valuable in the
// sample.
func TestMapDropsTheWorst(t *testing.T) {
	m := Map[string, int]{Max: 3}
	for key, value := range map[string]int{"a": 5, "b": 1, "c": 3} {
		if evicted, dropped := m.Put(key, value, less); dropped {
			t.Errorf("%s is dropped although there is room", evicted)
		}
	}
	if evicted, dropped := m.Put("b", 0, less); dropped {
		t.Errorf("%s is dropped for a key that is there", evicted)
	}
	if evicted, dropped := m.Put("d", 0, less); !dropped || evicted != "b" {
		t.Errorf("dropped %q, %v, want b", evicted, dropped)
	}
	m.Delete("c")
	m.Delete("c") // no effect
	m.Put("e", 7, less)
	if got, want := maps.Collect(m.All()), map[string]int{"a": 5, "d": 0, "e": 7}; !maps.Equal(got, want) {
		t.Errorf("the map holds %v, want %v", got, want)
	}
}

// A map full of valuable entries still evicts, and looks at only a few of them.
func TestMapLooksAtAFew(t *testing.T) {
	m := Map[int, int]{Max: 10_000}
	for i := range m.Max {
		m.Put(i, i, less)
	}
	looked := 0
	m.Put(-1, 0, func(a, b int) bool {
		looked++
		return a < b
	})
	if looked >= sample {
		t.Errorf("looked at %d entries, want less than %d", looked, sample)
	}
}

func TestZeroMapIsEmpty(t *testing.T) {
	var m Map[string, int]
	m.Delete("a")
	if v, ok := m.Get("a"); ok || m.Len() != 0 {
		t.Errorf("it has %d", v)
	}
	for k := range m.All() {
		t.Errorf("it has %s", k)
	}
}

// Minor entries have a cap of their own and evict only each other. What an entry is
// may change.
func TestMinorEntriesEvictOnlyEachOther(t *testing.T) {
	m := Map[int, int]{Max: 50, IsMinor: func(v int) bool { return v < 0 }, MaxMinor: 20}
	for i := range 50 {
		m.Put(i, 1, less)
	}
	for i := range 1000 {
		if evicted, dropped := m.Put(100+i, -1-i, less); dropped != (i >= 20) || dropped && evicted < 100 {
			t.Fatalf("minor entry %d: evicted %d, %v", i, evicted, dropped)
		}
	}
	for i := range 50 {
		if _, ok := m.Get(i); !ok {
			t.Errorf("entry %d is gone", i)
		}
	}
	m.Delete(0)
	if _, dropped := m.Put(1099, 1, less); dropped || m.Len() != 50+19 || m.Minor() != 19 {
		t.Errorf("one that is not minor any more: evicted %v; %d entries, %d minor", dropped, m.Len(), m.Minor())
	}
	m.Put(1099, -1, less)
	if all := maps.Collect(m.All()); len(all) != 49+20 || m.Len() != len(all) || all[1099] != -1 {
		t.Errorf("one that is minor again: %d entries, All has %d", m.Len(), len(all))
	}
	for range m.All() {
		break
	}
	m.Delete(1099)
	if _, ok := m.Get(1099); ok {
		t.Error("deleted, and still there")
	}
}
