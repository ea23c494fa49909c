package certmgr_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
)

func TestListThatIsEditedOftenPlacesNoOrdersOfTheGroup(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		for range 20 {
			w.m.Hosts.Remove("b.example.com")
			w.wantErr("b.example.com", certmgr.ErrHostNotAllowed)
			time.Sleep(30 * time.Minute)
			if err := w.m.Hosts.AddGroup("a.example.com", "b.example.com"); err != nil {
				t.Fatal(err)
			}
			w.mustGet("b.example.com")
			w.mustGet("a.example.com")
			time.Sleep(30 * time.Minute)
		}
		if got := w.ordered(); len(got) != 1 {
			t.Errorf("orders for %v", got)
		}
	})
}

func TestAddedNameIsServedAtOnceAndJoinsAtTheRenewal(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		first := w.mustGet("a.example.com")
		if err := w.m.Hosts.AddGroup("a.example.com", "d.example.com"); err != nil {
			t.Fatal(err)
		}
		if own := w.mustGet("d.example.com"); !slices.Equal(own.Leaf.DNSNames, []string{"d.example.com"}) {
			t.Errorf("the added name has a certificate for %q", own.Leaf.DNSNames)
		}
		if !w.mustGet("a.example.com").Leaf.Equal(first.Leaf) {
			t.Error("an added name caused an order of the group")
		}
		time.Sleep(89 * day)
		next := w.mustGet("a.example.com")
		if len(next.Leaf.DNSNames) != 4 || !w.mustGet("d.example.com").Leaf.Equal(next.Leaf) {
			t.Errorf("after its renewal the group's certificate is for %q", next.Leaf.DNSNames)
		}
	})
}
