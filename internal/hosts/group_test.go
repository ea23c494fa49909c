package hosts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestGroupsOfAList(t *testing.T) {
	many := func(n int) string {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("n%03d.example.com", i))
		}
		return strings.Join(names, " ")
	}
	for _, test := range []struct {
		name    string
		entries []string
		groups  []string
		why     string // of the error
	}{
		{"spaces and tabs separate", []string{"b.example.com  A.example.com \tc.example.com"}, []string{"b.example.com a.example.com c.example.com"}, ""},
		{"one name is no group", []string{"a.example.com a.example.com"}, nil, ""},
		{"a name on a line of its own stays in its group", []string{"a.example.com", "a.example.com b.example.com", "b.example.com"}, []string{"a.example.com b.example.com"}, ""},
		{"two lines with the same first name are one group", []string{"a.example.com b.example.com", "a.example.com c.example.com"}, []string{"a.example.com b.example.com c.example.com"}, ""},
		{"a name is in one group", []string{"a.example.com b.example.com", "c.example.com b.example.com"}, nil, "in the group of a.example.com already"},
		{"no wildcards", []string{"a.example.com *.example.com"}, nil, "a wildcard in a group"},
		{"no invalid names", []string{"a.example.com localhost"}, nil, "single label"},
		{"100 names", []string{many(100)}, []string{many(100)}, ""},
		{"101 names", []string{many(101)}, nil, "a group of 101 names"},
		{"101 names on two lines", []string{many(100), "n000.example.com another.example.com"}, nil, "a group of 101 names"},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries, err := ParseEntries(slices.Values(test.entries))
			fromFile, fileErr := parseFile(t.Context(), "hosts", strings.NewReader(strings.Join(test.entries, "\n")))
			if test.why != "" {
				for _, err := range []error{err, fileErr} {
					var entry *EntryError
					if !errors.As(err, &entry) || !strings.Contains(entry.Why, test.why) {
						t.Errorf("error %v, want the reason %q", err, test.why)
					}
				}
				return
			}
			if err != nil || fileErr != nil || !slices.Equal(entries, fromFile) {
				t.Fatalf("%q, %v; from a file %q, %v", entries, err, fromFile, fileErr)
			}
			var groups []string
			for _, g := range Collect(entries).Groups() {
				groups = append(groups, strings.Join(g.Names(), " "))
			}
			if !slices.Equal(groups, test.groups) {
				t.Errorf("groups %q, want %q", groups, test.groups)
			}
		})
	}
}

func TestEditOfGroups(t *testing.T) {
	old := Collect([]string{"a.example.com b.example.com c.example.com", "d.example.com"})
	edit := func(f func(e *Edit)) *Set {
		e := NewEdit(old)
		f(e)
		return e.Set()
	}
	names := func(s *Set, of string) string { return strings.Join(s.Group(of).Names(), " ") }

	s := edit(func(e *Edit) { e.Remove("a.example.com") })
	if got := names(s, "b.example.com"); got != "b.example.com c.example.com" || s.Group("a.example.com") != nil {
		t.Errorf("after its first name was removed the group is %q", got)
	}
	if got := Regrouped(old, s); !slices.Equal(got, []string{"b.example.com", "c.example.com"}) {
		t.Errorf("regrouped are %q", got)
	}
	s = edit(func(e *Edit) { e.Remove("a.example.com"); e.Remove("b.example.com") })
	if s.Group("c.example.com") != nil || len(s.Groups()) != 0 || s.grouped != 0 {
		t.Errorf("a group of one is left: %q", names(s, "c.example.com"))
	}
	s = edit(func(e *Edit) {
		added, err := e.AddGroup([]string{"a.example.com", "d.example.com", "e.example.com"})
		if err != nil || !slices.Equal(added, []string{"e.example.com"}) {
			t.Errorf("AddGroup added %q, %v", added, err)
		}
	})
	if got := names(s, "d.example.com"); got != "a.example.com b.example.com c.example.com d.example.com e.example.com" || s.Len() != 5 {
		t.Errorf("after names were added the group is %q", got)
	}
	s = edit(func(e *Edit) {
		if _, err := e.AddGroup([]string{"d.example.com", "c.example.com"}); err == nil {
			t.Error("a name came into two groups")
		}
	})
	if got := Regrouped(old, s); len(got) != 0 || s.Len() != old.Len() {
		t.Errorf("an edit that failed has regrouped %q", got)
	}
	if names(old, "c.example.com") != "a.example.com b.example.com c.example.com" || old.Group("d.example.com") != nil {
		t.Error("an edit has changed the set before it")
	}
	same := Collect([]string{"d.example.com", "a.example.com b.example.com c.example.com"})
	if got := Regrouped(old, same); len(got) != 0 {
		t.Errorf("a list with the same groups has regrouped %q", got)
	}
}
