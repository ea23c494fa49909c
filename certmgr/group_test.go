package certmgr_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// groupWorld is a bubble whose Manager has a group of names.
func groupWorld(t *testing.T, names []string, f func(t *testing.T, w *world)) {
	t.Helper()
	inBubble(t, func(t *testing.T, w *world) {
		w.group(names...)
		f(t, w)
	})
}

// group puts a Manager in place of the world's whose only hosts are a group.
func (w *world) group(names ...string) {
	w.t.Helper()
	w.m.Hosts = new(certmgr.Allowlist)
	if err := w.m.Hosts.AddGroup(names...); err != nil {
		w.t.Fatal(err)
	}
}

// orders returns the names of each order that the CA has had, sorted.
func (w *world) ordered() (orders [][]string) {
	for _, o := range w.ca.Orders() {
		orders = append(orders, o.Hosts)
	}
	return orders
}

// orderedTogether is ordered without the orders for single names.
func (w *world) orderedTogether() [][]string {
	return slices.DeleteFunc(w.ordered(), func(names []string) bool { return len(names) == 1 })
}

func abc() []string { return []string{"a.example.com", "b.example.com", "c.example.com"} }

func TestGroupHasOneCertificate(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		first := w.mustGet("b.example.com")
		for _, name := range abc() {
			if cert := w.mustGet(name); !cert.Leaf.Equal(first.Leaf) {
				t.Errorf("%s has a certificate of its own", name)
			}
		}
		if got := fmt.Sprint(w.ordered()); got != fmt.Sprint([][]string{abc()}) {
			t.Errorf("orders for %v", got)
		}
	})
}

// moved makes a name lead to other machines.
func (w *world) moved(name string) {
	w.ca.Resolve(name, acmetest.Target{TLSConfig: &tls.Config{}})
}

func TestVisitorsOfAStalledGroupFailFast(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		var waited, inFlight atomic.Int32
		var wg sync.WaitGroup
		for i := range 2000 {
			wg.Go(func() {
				began := time.Now()
				_, err := w.get(abc()[i%3])
				if time.Since(began) > 0 {
					waited.Add(1)
				} else if errors.Is(err, certmgr.ErrInFlight) && strings.Contains(err.Error(), "group of a.example.com") {
					inFlight.Add(1)
				}
			})
		}
		wg.Wait()
		if waited.Load() != 1 || inFlight.Load() != 1999 {
			t.Errorf("%d handshakes waited, and %d got ErrInFlight with the group's name", waited.Load(), inFlight.Load())
		}
	})
}

func TestNameThatMovedAwayLeavesTheOrderAndComesBack(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		w.moved("c.example.com")
		cert := w.mustGet("a.example.com")
		if got := cert.Leaf.DNSNames; !slices.Equal(slices.Sorted(slices.Values(got)), []string{"a.example.com", "b.example.com"}) {
			t.Fatalf("the certificate is for %q", got)
		}
		if !w.mustGet("b.example.com").Leaf.Equal(cert.Leaf) {
			t.Error("b.example.com has a certificate of its own")
		}
		err := w.wantErr("c.example.com", certmgr.ErrBackoff)
		var failure *certmgr.IssuanceError
		if !errors.As(err, &failure) || failure.Host != "c.example.com" || failure.Stage != audit.StageChallenge {
			t.Errorf("the failure of c.example.com is %+v", failure)
		}
		var problem *acme.Error
		if !errors.As(err, &problem) {
			t.Errorf("the error of c.example.com lacks the CA's reason: %v", err)
		}
		if n := len(w.events.of(audit.CertificateIssued)); n != 1 {
			t.Errorf("%d certificates were issued", n)
		}
		w.reach()
		w.ca.Resolve("c.example.com", acmetest.Target{TLSConfig: w.m.TLSConfig()})
		time.Sleep(2 * time.Hour)
		own := w.mustGet("c.example.com")
		if len(own.Leaf.DNSNames) != 1 {
			t.Errorf("c.example.com, which the group's certificate lacks, got one for %q", own.Leaf.DNSNames)
		}
		time.Sleep(89 * day)
		next := w.mustGet("a.example.com")
		if got := slices.Sorted(slices.Values(next.Leaf.DNSNames)); !slices.Equal(got, abc()) {
			t.Errorf("after its renewal the certificate is for %q", got)
		}
		if !w.mustGet("c.example.com").Leaf.Equal(next.Leaf) {
			t.Error("c.example.com is not served the group's certificate")
		}
	})
}

func TestNameThatMovesAwayLaterKeepsTheCertificateBefore(t *testing.T) {
	t.Parallel()
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		first := w.mustGet("a.example.com")
		w.moved("a.example.com") // the first name, too
		time.Sleep(time.Until(first.Leaf.NotAfter) - 20*day)
		next := w.mustGet("b.example.com")
		if next.Leaf.Equal(first.Leaf) || !w.mustGet("c.example.com").Leaf.Equal(next.Leaf) {
			t.Error("the group was not renewed without the name that moved away")
		}
		if !w.mustGet("a.example.com").Leaf.Equal(first.Leaf) {
			t.Error("the name that moved away lost its valid certificate")
		}
		synctest.Wait()
		orders := len(w.orderedTogether())
		w.restartGroup(abc()...)
		for _, name := range abc() {
			w.mustGet(name)
		}
		time.Sleep(time.Minute)
		for name, want := range map[string]*tls.Certificate{"a.example.com": first, "b.example.com": next, "c.example.com": next} {
			if !w.mustGet(name).Leaf.Equal(want.Leaf) {
				t.Errorf("%s has another certificate after a restart", name)
			}
		}
		if n := len(w.orderedTogether()); n != orders {
			t.Errorf("%d orders of the group after a restart", n-orders)
		}
		time.Sleep(21 * day)
		w.wantErr("a.example.com", certmgr.ErrBackoff)
		w.mustGet("b.example.com")
	})
}

func TestGroupsCertificateSurvivesARestartAndAnEdit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(l *certmgr.Allowlist) error
		served []string // with the certificate from before
	}{
		{"no change", func(*certmgr.Allowlist) error { return nil }, abc()},
		{"a name is added", func(l *certmgr.Allowlist) error { return l.AddGroup("a.example.com", "d.example.com") }, abc()},
		{"a name is removed", func(l *certmgr.Allowlist) error { l.Remove("b.example.com"); return nil }, []string{"a.example.com", "c.example.com"}},
		{"the first name is removed", func(l *certmgr.Allowlist) error { l.Remove("a.example.com"); return nil }, abc()[1:]},
		{"names change places", func(l *certmgr.Allowlist) error { return l.Replace("c.example.com a.example.com", "b.example.com") }, []string{"a.example.com", "c.example.com"}},
	} {
		for _, running := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, restart %v", test.name, !running), func(t *testing.T) {
				groupWorld(t, abc(), func(t *testing.T, w *world) {
					first := w.mustGet("a.example.com")
					synctest.Wait()
					if !running {
						w.restart()
						w.group(abc()...)
					}
					if err := test.change(w.m.Hosts); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					for _, name := range test.served {
						if !w.mustGet(name).Leaf.Equal(first.Leaf) {
							t.Errorf("%s has another certificate", name)
						}
					}
					if n := len(w.ordered()); n != 1 {
						t.Errorf("%d orders", n)
					}
					for _, name := range abc() {
						if !w.m.Hosts.Contains(name) {
							w.wantErr(name, certmgr.ErrHostNotAllowed)
						}
					}
					// What remains is renewed, by itself.
					time.Sleep(89 * day)
					for _, name := range test.served {
						if cert := w.mustGet(name); cert.Leaf.Equal(first.Leaf) || cert.Leaf.VerifyHostname("b.example.com") == nil && !w.m.Hosts.Contains("b.example.com") {
							t.Errorf("%s has a certificate for %q of %v", name, cert.Leaf.DNSNames, cert.Leaf.NotBefore)
						}
					}
				})
			})
		}
	}
}

func TestMembersOwnCertificatesServeUntilDue(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		own := make(map[string]*tls.Certificate)
		for _, name := range abc() {
			own[name] = w.mustGet(name)
			time.Sleep(day)
		}
		w.restart()
		w.group(abc()...)
		if err := w.m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * day)
		for _, name := range abc() {
			if !w.mustGet(name).Leaf.Equal(own[name].Leaf) {
				t.Errorf("the certificate of %s was replaced before it was due", name)
			}
		}
		time.Sleep(30 * day)
		group := w.mustGet("a.example.com")
		for _, name := range abc() {
			if !w.mustGet(name).Leaf.Equal(group.Leaf) {
				t.Errorf("%s does not have the group's certificate", name)
			}
		}
		if got := w.ordered(); len(got) != 4 || len(got[3]) != 3 {
			t.Errorf("orders for %v", got)
		}
	})
}

func TestNameRemovedDuringTheIssuanceOfItsGroup(t *testing.T) {
	for _, name := range abc()[:2] {
		t.Run(name, func(t *testing.T) {
			groupWorld(t, abc(), func(t *testing.T, w *world) {
				stall := w.ca.Delay(acmetest.Match{Endpoint: acmetest.Finalize}, 5*time.Second)
				defer stall.Lift()
				go w.get("c.example.com")
				time.Sleep(time.Second)
				w.m.Hosts.Remove(name)
				time.Sleep(10 * time.Second)
				for _, other := range abc() {
					if other == name {
						w.wantErr(other, certmgr.ErrHostNotAllowed)
					} else {
						w.mustGet(other)
					}
				}
				if n := len(w.ordered()); n != 1 {
					t.Errorf("%d orders", n)
				}
			})
		})
	}
}

func TestRemovedGroupEndsItsIssuance(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		go w.get("c.example.com")
		time.Sleep(time.Second)
		w.m.Hosts.Remove(abc()...)
		if n := len(w.events.of(audit.IssuanceCanceled)); n != 1 {
			t.Errorf("%d issuances were canceled", n)
		}
	})
}

func TestRevokeIsForAllNamesOfAGroup(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		first := w.mustGet("a.example.com")
		if err := w.m.Revoke(t.Context(), "b.example.com", acme.CRLReasonSuperseded); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		for _, name := range abc() {
			if w.mustGet(name).Leaf.Equal(first.Leaf) {
				t.Errorf("%s is served the revoked certificate", name)
			}
		}
		if n := len(w.ordered()); n != 2 {
			t.Errorf("%d orders", n)
		}
	})
}

func TestSnapshotShowsTheGroupOfEachMember(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		snap := w.m.Snapshot()
		if len(snap.Hosts) != 3 {
			t.Fatalf("%d hosts", len(snap.Hosts))
		}
		for i, st := range snap.Hosts {
			if st.Host != abc()[i] || st.Group != "a.example.com" || st.State != certmgr.StateValid || st.RenewAt.IsZero() {
				t.Errorf("%+v", st)
			}
		}
		issued := w.events.of(audit.CertificateIssued)
		if len(issued) != 1 || issued[0].Host != "a.example.com" || issued[0].Names != "b.example.com c.example.com" {
			t.Errorf("events %+v", issued)
		}
	})
}

func TestGroupOf100Names(t *testing.T) {
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("n%02d.example.com", i))
	}
	groupWorld(t, names, func(t *testing.T, w *world) {
		cert := w.mustGet("n42.example.com")
		if len(cert.Leaf.DNSNames) != 100 || len(w.ordered()) != 1 {
			t.Errorf("a certificate for %d names, and %d orders", len(cert.Leaf.DNSNames), len(w.ordered()))
		}
		if err := w.m.Hosts.AddGroup("n00.example.com", "one.more.example.com"); err == nil || !strings.Contains(err.Error(), "at most 100") {
			t.Errorf("a name too many: %v", err)
		}
	})
}

func TestGroupThatFailsAsAWholeBlamesNoMember(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		w.ca.Resolve("*", acmetest.Target{TLSConfig: &tls.Config{}})
		if _, err := w.get("a.example.com"); err == nil {
			t.Fatal("there is a certificate")
		}
		for _, name := range abc() {
			w.wantErr(name, certmgr.ErrBackoff)
		}
		synctest.Wait()
		if data, err := w.cache.Cache.Get(t.Context(), "a.example.com+group+failure"); err != nil || !strings.Contains(string(data), `"stage":"challenge"`) {
			t.Errorf("the group's record is %s, %v", data, err)
		}
		if n := len(w.events.of(audit.IssuanceFailed)); n != 1 {
			t.Errorf("%d failures", n)
		}
	})
}

func TestProfileLimitsTheNamesOfAGroup(t *testing.T) {
	for n, fails := range map[int]bool{25: false, 26: true} {
		inBubble(t, func(t *testing.T, w *world) {
			w.m.Profile = "shortlived"
			var names []string
			for i := range n {
				names = append(names, fmt.Sprintf("n%02d.example.com", i))
			}
			w.group(names...)
			_, err := w.get("n00.example.com")
			if fails != (err != nil && strings.Contains(err.Error(), "26 names") && strings.Contains(err.Error(), "allows 25")) || fails != (len(w.ordered()) == 0) {
				t.Errorf("%d names: %v, and %d orders", n, err, len(w.ordered()))
			}
		}, func(ca *acmetest.Server) { ca.Profiles = acmetest.LetsEncryptProfiles() })
	}
}

func TestNameThatIsListedAgainIsNoMember(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		w.m.Hosts.Remove("b.example.com")
		if err := w.m.Hosts.Add("b.example.com"); err != nil { // by itself
			t.Fatal(err)
		}
		if got := w.m.Hosts.Groups(); len(got) != 1 || !slices.Equal(got[0], []string{"a.example.com", "c.example.com"}) {
			t.Errorf("groups %q", got)
		}
		cert := w.mustGet("a.example.com")
		if len(cert.Leaf.DNSNames) != 2 || len(w.mustGet("b.example.com").Leaf.DNSNames) != 1 {
			t.Errorf("a certificate for %q", cert.Leaf.DNSNames)
		}
	})
}
