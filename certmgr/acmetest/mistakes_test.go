package acmetest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// TestMistakesPanic: an obvious mistake of the test panics at once and says
// why.
func TestMistakesPanic(t *testing.T) {
	for _, test := range []struct {
		name    string
		mistake func()
		want    string
	}{
		{"a server that was not made", func() { new(acmetest.Server).StartMemory() }, "NewServer"},
		{"a second start", func() {
			s := acmetest.NewMemoryServer()
			defer s.Close()
			s.StartMemory()
		}, "started before"},
		{"a start after the end", func() {
			s := acmetest.NewUnstartedServer()
			s.Close()
			s.StartMemory()
		}, "closed before"},
		{"a status that no problem has", func() {
			s := acmetest.NewMemoryServer()
			defer s.Close()
			s.Status(acmetest.Match{}, 100, nil, acmetest.Problem{})
		}, "status 100"},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, test.want) {
					t.Errorf("panic %q, want one with %q", got, test.want)
				}
			}()
			test.mistake()
		})
	}
}
