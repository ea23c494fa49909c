package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
)

// restartGroup puts another Manager with the same group in place of the world's.
func (w *world) restartGroup(names ...string) {
	w.t.Helper()
	w.restart()
	w.group(names...)
}

// sortedNames returns the names of a certificate, sorted.
func sortedNames(cert *tls.Certificate) []string {
	return slices.Sorted(slices.Values(cert.Leaf.DNSNames))
}

// Clients that need RSA get a certificate of the group too, which has a key of its
// own in the Cache.
func TestGroupHasOneCertificateForEachKeyType(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		ecdsa := w.mustGet("a.example.com")
		rsa, err := w.m.GetCertificate(rsaHello("b.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		if rsa.Leaf.Equal(ecdsa.Leaf) || !slices.Equal(sortedNames(rsa), abc()) {
			t.Errorf("the RSA certificate is for %q", sortedNames(rsa))
		}
		synctest.Wait()
		w.restartGroup(abc()...)
		for _, name := range abc() {
			again, err := w.m.GetCertificate(rsaHello(name))
			if err != nil || !again.Leaf.Equal(rsa.Leaf) {
				t.Errorf("%s after a restart: another RSA certificate, %v", name, err)
			}
		}
		w.mustGet("c.example.com") // has the other one sought
		synctest.Wait()
		for _, name := range abc() {
			if !w.mustGet(name).Leaf.Equal(ecdsa.Leaf) {
				t.Errorf("%s after a restart: another ECDSA certificate", name)
			}
		}
		if n := len(w.ca.Orders()); n != 2 {
			t.Errorf("%d orders, want 2", n)
		}
	})
}

// What was issued for a group is not lost with the process: the next one finds the
// order and its key.
func TestOrderOfAGroupIsResumed(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		stall := w.ca.Stall(acmetest.Match{Endpoint: acmetest.Certificate})
		go w.get("b.example.com")
		time.Sleep(5 * time.Second)
		w.restartGroup(abc()...)
		stall.Lift()
		first := w.mustGet("c.example.com")
		if !slices.Equal(sortedNames(first), abc()) || !w.mustGet("a.example.com").Leaf.Equal(first.Leaf) {
			t.Errorf("the certificate is for %q", sortedNames(first))
		}
		if n := len(w.ca.Orders()); n != 1 {
			t.Errorf("%d orders, want 1", n)
		}
	})
}

// With preflight.Enforce a name that leads elsewhere is not ordered: the others get
// their certificate, and the name waits for DNS and then has its own.
func TestNameOfAGroupThatLeadsElsewhereWaitsForDNS(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		n := w.preflight(preflight.Enforce)
		n.name("b.example.com", "192.0.2.1")
		n.name("c.example.com", "192.0.2.7")
		if got := sortedNames(w.mustGet("a.example.com")); !slices.Equal(got, abc()[:2]) {
			t.Errorf("the certificate is for %q", got)
		}
		w.mustGet("b.example.com")
		if _, err := w.get("c.example.com"); !errors.Is(err, certmgr.ErrUnreachable) {
			t.Errorf("c.example.com: %v", err)
		}
		n.name("c.example.com", "192.0.2.1")
		time.Sleep(time.Hour)
		w.mustGet("c.example.com")
		if n := len(w.events.of(audit.ChallengeFailed)); n != 0 {
			t.Errorf("%d challenges failed", n)
		}
	})
}

// A member's own order and that of its group would present two answers for one name
// (RFC 8737, section 3): they wait for each other.
func TestOrdersOfAGroupAndOfItsMemberWaitForEachOther(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		w.moved("c.example.com")
		w.mustGet("a.example.com")
		w.wantErr("c.example.com", certmgr.ErrBackoff)
		w.ca.Resolve("c.example.com", acmetest.Target{TLSConfig: w.m.TLSConfig()})
		time.Sleep(2 * time.Hour)
		stall := w.ca.Stall(acmetest.Match{Endpoint: acmetest.Finalize})
		go w.get("c.example.com")
		time.Sleep(time.Second)
		orders := len(w.ca.Orders())
		renewed := make(chan error, 1)
		go func() { renewed <- w.m.Renew(t.Context(), "a.example.com") }()
		time.Sleep(time.Second)
		if n := len(w.ca.Orders()); n != orders {
			t.Errorf("%d orders while that of a member is in flight, want %d", n, orders)
		}
		stall.Lift()
		if err := <-renewed; err != nil {
			t.Error(err)
		}
		w.mustGet("c.example.com")
	})
}

// The operator's own certificate of a member has precedence, and its group is
// ordered and renewed without it, also if it is the first name's.
func TestGroupWithAnOwnCertificate(t *testing.T) {
	t.Parallel()
	for _, name := range abc() {
		t.Run(name, func(t *testing.T) {
			groupWorld(t, abc(), func(t *testing.T, w *world) {
				own := newOfficeCA(t).sign(t, signed{names: []string{name}, life: 400 * day})
				w.m.Certificates = func(context.Context) ([]certmgr.OwnCertificate, error) {
					return []certmgr.OwnCertificate{{Name: "the office's", Certificate: own}}, nil
				}
				w.m.CertificatesEvery = 24 * time.Hour
				w.mustServe(name, own)
				others := slices.DeleteFunc(abc(), func(other string) bool { return other == name })
				for range 3 {
					for _, other := range others {
						if got := sortedNames(w.mustGet(other)); !slices.Equal(got, others) {
							t.Errorf("the certificate of %s is for %q", other, got)
						}
					}
					w.mustServe(name, own)
					time.Sleep(89 * day)
				}
			})
		})
	}
}

// A name that the CA's policy rejects leaves its group, although the CA says only in
// the text of the problem which one it is, as Boulder does.
func TestRejectedNameLeavesItsGroup(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "c.example.com"}, http.StatusBadRequest, nil, acmetest.Problem{
			Type:   "rejectedIdentifier",
			Detail: `Error creating new order :: Cannot issue for "c.example.com": Domain name is forbidden by policy`,
		})
		if got := sortedNames(w.mustGet("a.example.com")); !slices.Equal(got, abc()[:2]) {
			t.Errorf("the certificate is for %q", got)
		}
		w.mustGet("b.example.com")
		w.wantErr("c.example.com", certmgr.ErrBackoff)
		for _, st := range w.m.Snapshot().Hosts {
			if want := st.Host == "c.example.com"; (st.State == certmgr.StateRejected) != want {
				t.Errorf("%s is %s", st.Host, st.State)
			}
		}
	})
}
