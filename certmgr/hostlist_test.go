package certmgr

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestReplaceTellsWhatChanged(t *testing.T) {
	a := MustAllowlist("a.example.com", "b.example.com", "*.example.org")
	var got change
	stop := a.list.watch(func(c change) { got = c })
	if err := a.Replace("b.example.com", "c.example.com"); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.removed)
	if want := []string{"*.example.org", "a.example.com"}; !slices.Equal(got.removed, want) || !slices.Equal(got.added, []string{"c.example.com"}) {
		t.Errorf("Replace told %+v", got)
	}
	if err := a.Replace("d.example.com", "bad name"); err == nil || !a.Contains("b.example.com") || a.Contains("d.example.com") {
		t.Errorf("a bad list changed the old one, or was no error: %v", err)
	}
	if all := slices.Sorted(a.All()); !slices.Equal(all, []string{"b.example.com", "c.example.com"}) {
		t.Errorf("All() = %q", all)
	}
	stop()
	a.Remove("b.example.com")
	if len(got.added) == 0 {
		t.Error("a stopped watcher was called")
	}
}

// A watcher hears of what really changed, with the reason, and in order.
func TestWatchersHearOfRealChanges(t *testing.T) {
	a := MustAllowlist("a.example.com")
	var got []string
	defer a.list.watch(func(c change) { got = append(got, fmt.Sprintf("%q+%q=%q-%q", c.reason, c.added, c.again, c.removed)) })()
	before := a.list.names.Load()
	a.Add("a.example.com", "A.example.com.")
	a.Remove("z.example.com", "not a name", "com")
	if a.list.names.Load() != before {
		t.Error("a change of nothing made a new generation")
	}
	because := a.Because("ticket 1\n")
	because.Add("b.example.com", "a.example.com", "b.example.com")
	because.Replace("b.example.com", "*.example.org", "*.example.org")
	because.Remove("*.example.org")
	because.Add("no")
	want := []string{
		`""+[]=["a.example.com" "a.example.com"]-[]`,
		`""+[]=[]-[]`,
		`"ticket 1\\n"+["b.example.com"]=["a.example.com" "b.example.com"]-[]`,
		`"ticket 1\\n"+["*.example.org"]=[]-["a.example.com"]`,
		`"ticket 1\\n"+[]=[]-["*.example.org"]`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// With concurrent changes of the list, the last change of a name that a watcher
// gets is its current state.
func TestWatchersHearInOrder(t *testing.T) {
	a := new(Allowlist)
	listed := false // a.changing orders the calls
	defer a.list.watch(func(c change) { listed = len(c.added) > 0 || listed && len(c.removed) == 0 })()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				a.Add("a.example.com")
				a.Remove("a.example.com")
			}
		})
	}
	wg.Go(func() { a.Replace("a.example.com") })
	wg.Wait()
	if listed != a.Contains("a.example.com") {
		t.Errorf("the watcher thinks %v", listed)
	}
}
