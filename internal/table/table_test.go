package table

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

func put(t *Table[string, int], key string, value int) {
	t.Put(&Item[string, int]{Key: key, Value: value})
}

func get(t *Table[string, int], key string) (int, bool) {
	if v := t.Get(key); v != nil {
		return *v, true
	}
	return 0, false
}

func names(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("h%d.example.com", i)
	}
	return keys
}

// A walker keeps nobody from anything: it changes the table itself here, which
// grows and shrinks meanwhile.
func TestWalkerHoldsNothing(t *testing.T) {
	tab, keys := New[string, int](), names(3000)
	for i, key := range keys[:1000] {
		put(tab, key, i)
	}
	seen, step := make(map[string]bool), 1000
	for key := range tab.All() {
		if seen[key] {
			t.Fatalf("%q is visited twice", key)
		}
		seen[key] = true
		for range 4 {
			if step < len(keys) {
				put(tab, keys[step], step)
				tab.Delete(keys[step-500]) // 500 to 999 among others
				step++
			}
		}
		if v, ok := get(tab, keys[0]); !ok || v != 0 {
			t.Fatal("a reader does not find what is there")
		}
	}
	for _, key := range keys[:500] {
		if !seen[key] {
			t.Errorf("%q was there all the time and is not visited", key)
		}
	}
}

// The walk may end early.
func TestWalkEnds(t *testing.T) {
	tab := New[string, int]()
	for i, key := range names(100) {
		put(tab, key, i)
	}
	n := 0
	for range tab.All() {
		if n++; n == 10 {
			break
		}
	}
	if n != 10 {
		t.Errorf("a walk over 100 items visits %d", n)
	}
}

// TestStorm has readers and walkers beside a writer. What is there all the time
// is found by each of them, whatever is put, replaced and deleted meanwhile.
func TestStorm(t *testing.T) {
	const (
		stable  = 500
		changes = 30_000
	)
	tab, keys := New[string, int](), names(5000)
	for i, key := range keys[:stable] {
		put(tab, key, i)
	}
	var done atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		defer done.Store(true)
		rng := rand.New(rand.NewPCG(1, 2))
		for range changes {
			switch i := rng.IntN(len(keys)); {
			case i < stable:
				put(tab, keys[i], i) // replaces it
			case rng.IntN(2) == 0:
				put(tab, keys[i], i)
			default:
				tab.Delete(keys[i])
			}
		}
	})
	for range 2 {
		all.Go(func() {
			for i := 0; !done.Load(); i++ {
				i := i % len(keys)
				if v, ok := get(tab, keys[i]); ok && v != i || !ok && i < stable {
					t.Errorf("Get(%q) = %d, %v", keys[i], v, ok)
					return
				}
			}
		})
		all.Go(func() {
			for !done.Load() {
				found := 0
				for key, v := range tab.All() {
					if keys[*v] != key {
						t.Errorf("a walk visits %q with the value of %q", key, keys[*v])
					}
					if *v < stable {
						found++
					}
				}
				if found != stable {
					t.Errorf("a walk visits %d items that are there all the time, want each of %d once", found, stable)
					return
				}
			}
		})
	}
	all.Wait()
}
