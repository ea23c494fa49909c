package certmgr

import (
	"slices"
	"testing"

	"github.com/nostall/nostall/internal/bundle"
)

// A subject is the same in whatever order its names are given, and says them.
func TestSubjectOfNames(t *testing.T) {
	for _, test := range []struct {
		names       []string
		identifiers string
	}{
		{[]string{"www.example.com"}, "dns:www.example.com"},
		{[]string{"192.0.2.1"}, "ip:192.0.2.1"},
		{[]string{"2001:db8::1"}, "ip:2001:db8::1"},
		{[]string{"b.example.com", "2001:db8::1", "a.example.com"}, "dns:a.example.com,dns:b.example.com,ip:2001:db8::1"},
	} {
		sub := newSubject(bundle.RSA, "ca", test.names...)
		slices.Reverse(test.names)
		if sub.identifiers != test.identifiers || sub != newSubject(bundle.RSA, "ca", test.names...) {
			t.Errorf("%q: identifiers %q", test.names, sub.identifiers)
		}
		names := sub.names()
		if sub.host() != names[0] {
			t.Errorf("host %q, first name %q", sub.host(), names[0])
		}
		slices.Sort(names)
		slices.Sort(test.names)
		if !slices.Equal(names, test.names) {
			t.Errorf("names %q, want %q", names, test.names)
		}
	}
}
