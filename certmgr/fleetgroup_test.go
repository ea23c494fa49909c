package certmgr_test

import (
	"crypto/tls"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// groups adds n machines that have the same group.
func (s *site) groups(n int, names ...string) {
	s.t.Helper()
	for range n {
		if err := s.machine().Hosts.AddGroup(names...); err != nil {
			s.t.Fatal(err)
		}
	}
}

// ordersOfGroups returns how many orders there are for several names, and how many of these
// have come to a certificate.
func (s *site) ordersOfGroups() (all, valid int) {
	for _, o := range s.ca.Orders() {
		if len(o.Hosts) < 2 {
			continue
		}
		all++
		if o.Status == "valid" {
			valid++
		}
	}
	return all, valid
}

// Whichever name leaves the order of its group, the other machines serve within a
// second what one of them has stored for the others, and order nothing.
func TestFleetFollowsAGroupThatANameHasLeft(t *testing.T) {
	for _, gone := range abc() {
		t.Run(gone, func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				s.groups(3, abc()...)
				s.ca.Resolve(gone, acmetest.Target{TLSConfig: &tls.Config{}})
				left := slices.DeleteFunc(abc(), func(name string) bool { return name == gone })
				obtained := make([]error, len(s.machines))
				for i, m := range s.machines {
					obtained[i] = certmgr.ErrInFlight
					go func() { obtained[i] = m.Obtain(t.Context(), left[1]) }()
					synctest.Wait()
				}
				leader := s.machines[0]
				cert, _ := s.await(leader, left[0], 20*time.Second)
				if got := sortedNames(cert); !slices.Equal(got, left) {
					t.Fatalf("the certificate is for %q", got)
				}
				for _, m := range s.machines[1:] {
					m.wantOne(t, audit.IssuanceElsewhere)
					for _, host := range left {
						if got, _ := s.await(m, host, time.Second); !got.Leaf.Equal(cert.Leaf) {
							t.Errorf("%s serves %s another certificate", m.name, host)
						}
					}
				}
				time.Sleep(time.Second)
				synctest.Wait()
				for i, err := range obtained {
					if err != nil {
						t.Errorf("%s: a second later Obtain has returned %v", s.machines[i].name, err)
					}
				}
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				if all, valid := s.ordersOfGroups(); all != 2 || valid != 1 {
					t.Errorf("%d orders of the group, %d of them valid; want 2, one of which for all names", all, valid)
				}
			})
		})
	}
}

// Nor do they when it is renewed without the name.
func TestFleetRenewsAGroupThatANameHasLeftOnce(t *testing.T) {
	t.Parallel()
	for _, gone := range abc() {
		t.Run(gone, func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				s.groups(3, abc()...)
				s.await(s.machines[0], abc()[0], 10*time.Second)
				for _, m := range s.machines {
					if err := m.Start(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(day)
				s.ca.Resolve(gone, acmetest.Target{TLSConfig: &tls.Config{}})
				left := slices.DeleteFunc(abc(), func(name string) bool { return name == gone })
				time.Sleep(74 * day)
				first, _ := s.await(s.machines[0], left[0], 0)
				if got := sortedNames(first); !slices.Equal(got, left) {
					t.Errorf("the certificate is for %q", got)
				}
				for _, m := range s.machines {
					for _, host := range left {
						if got, _ := s.await(m, host, 0); !got.Leaf.Equal(first.Leaf) {
							t.Errorf("%s serves %s another certificate", m.name, host)
						}
					}
				}
				if all, valid := s.ordersOfGroups(); all != 3 || valid != 2 {
					t.Errorf("%d orders of the group, %d of them valid; want 3 and 2", all, valid)
				}
			})
		})
	}
}
