package hosts

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// Compares the set with a map over random changes. Every set made stays as it
// was.
func TestSetAgainstAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	entry := func() string {
		name := fmt.Sprintf("h%d.example.com", r.IntN(300))
		if r.IntN(4) == 0 {
			return "*." + name
		}
		return name
	}
	var set *Set
	model := map[string]bool{}
	type past struct {
		set  *Set
		want []string
	}
	var history []past
	sorted := func(m map[string]bool) []string {
		var all []string
		for e := range m {
			all = append(all, e)
		}
		slices.Sort(all)
		return all
	}
	for range 300 {
		edit := NewEdit(set)
		for range r.IntN(20) {
			e := entry()
			if r.IntN(2) == 0 {
				if got := edit.Add(e); got == model[e] {
					t.Fatalf("Add(%q) = %v", e, got)
				}
				model[e] = true
			} else {
				if got := edit.Remove(e); got != model[e] {
					t.Fatalf("Remove(%q) = %v", e, got)
				}
				delete(model, e)
			}
		}
		set = edit.Set()
		history = append(history, past{set, sorted(model)})
	}
	for i, p := range history {
		if got := slices.Sorted(p.set.All()); !slices.Equal(got, p.want) {
			t.Fatalf("set %d of %d changed after it was made", i, len(history))
		}
		wild := 0
		for _, e := range p.want {
			if e[0] == '*' {
				wild++
			}
			if !p.set.Has(e) {
				t.Fatalf("set %d lacks %q", i, e)
			}
		}
		if p.set.size != len(p.want) || p.set.wildcards != wild {
			t.Fatalf("set %d counts %d entries and %d wildcards, want %d and %d", i, p.set.size, p.set.wildcards, len(p.want), wild)
		}
	}
}

func TestSetMatches(t *testing.T) {
	set := Collect([]string{"a.example.com", "*.example.com", "*.b.example.org"})
	for host, want := range map[string]Match{
		"a.example.com": Exact, "b.example.com": Wildcard, "example.com": None, "a.b.example.com": None,
		"x.b.example.org": Wildcard, "b.example.org": None, "com": None, "": None,
	} {
		if got := set.Match(host); got != want {
			t.Errorf("Match(%q) = %v, want %v", host, got, want)
		}
	}
	if all := slices.Collect(set.All()); len(all) != 3 || all[0] != "a.example.com" {
		t.Errorf("All() = %q, want the name first", all)
	}
	for range set.All() {
		break // a loop may be left
	}
}

// A change of one entry copies one shard and shares the others.
func TestSetSharesItsShards(t *testing.T) {
	names := make([]string, 20_000)
	for i := range names {
		names[i] = fmt.Sprintf("h%d.example.com", i)
	}
	old := Collect(names)
	for what, change := range map[string]func(*Edit) bool{
		"add":    func(e *Edit) bool { return e.Add("new.example.com") },
		"remove": func(e *Edit) bool { return e.Remove("h7.example.com") },
	} {
		edit := NewEdit(old)
		if !change(edit) {
			t.Fatalf("%s changed nothing", what)
		}
		copied := 0
		for i := range old.shards {
			if reflect.ValueOf(old.shards[i]).Pointer() != reflect.ValueOf(edit.set.shards[i]).Pointer() {
				copied++
			}
		}
		if copied != 1 {
			t.Errorf("%s of one entry copied %d of %d shards", what, copied, setShards)
		}
	}
}

// What readers remember of a set holds for that set alone.
func TestEachEditIsAnotherGeneration(t *testing.T) {
	old := Collect([]string{"a.example.com"})
	e := NewEdit(old)
	e.Remove("a.example.com")
	if e.Set().Generation() == old.Generation() || old.Generation() == 0 {
		t.Errorf("generations %d and %d", old.Generation(), e.Set().Generation())
	}
}
