package certmgr_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/bundle"
)

// getAs is get for a client with this hello, which has to be served. It returns the
// key type that the client got.
func (w *world) getAs(hello *tls.ClientHelloInfo) x509.PublicKeyAlgorithm {
	w.t.Helper()
	cert, err := w.m.GetCertificate(hello)
	if err != nil {
		w.t.Fatalf("GetCertificate(%q): %v", hello.ServerName, err)
	}
	return cert.Leaf.PublicKeyAlgorithm
}

// The first client, a scanner that needs RSA, does not decide what all others get: for
// the first that takes ECDSA that is issued, once, while RSA is served without a wait.
func TestScannerDoesNotDecideTheKeyType(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.getAs(rsaHello("a.example.com"))
		start := time.Now()
		var clients sync.WaitGroup
		for range 500 {
			clients.Go(func() {
				if got := w.getAs(ecdsaHello("a.example.com")); got != x509.RSA {
					t.Errorf("a client got %v before that was issued", got)
				}
			})
		}
		clients.Wait()
		if d := time.Since(start); d != 0 {
			t.Errorf("clients waited %v", d)
		}
		time.Sleep(time.Minute)
		for range 3 {
			if got := w.getAs(ecdsaHello("a.example.com")); got != x509.ECDSA {
				t.Errorf("a client that takes ECDSA got %v", got)
			}
			if got := w.getAs(rsaHello("a.example.com")); got != x509.RSA {
				t.Errorf("a client of RSA alone got %v", got)
			}
			time.Sleep(day)
		}
		w.wantOrders("a.example.com", 2)
	})
}

// After a restart the first client may find the certificate in the Cache. Its key type
// does not decide either, in memory and in the Cache that autocert left.
func TestCachedRSADoesNotDecideTheKeyType(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.keep("a.example.com+rsa", entryFor("a.example.com", bundle.RSA, undue))
		if got := w.getAs(ecdsaHello("a.example.com")); got != x509.RSA {
			t.Errorf("the first client got %v", got)
		}
		time.Sleep(time.Second)
		if got := w.getAs(ecdsaHello("a.example.com")); got != x509.ECDSA {
			t.Errorf("the second client got %v", got)
		}
		w.restart()
		w.getAs(rsaHello("a.example.com"))
		w.getAs(ecdsaHello("a.example.com"))
		time.Sleep(time.Minute)
		w.getAs(ecdsaHello("a.example.com"))
		w.wantOrders("a.example.com", 1) // for both processes
	})
}

// A certificate of the preferred key type that cannot be had is tried at the pace of
// the backoff, over restarts too, and not for each client. The renewal of the other
// one does not wait for that.
func TestSecondCertificateBacksOffAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.getAs(rsaHello("a.example.com"))
		w.ca.Unresolve("*")
		w.ca.Resolve("*", acmetest.Target{}) // moved away
		for range 40 * 24 {
			w.getAs(ecdsaHello("a.example.com"))
			w.getAs(ecdsaHello("a.example.com"))
			time.Sleep(time.Hour)
		}
		// 1 min, 10 min, hourly for a day, then daily: by visits once an hour.
		if n := w.orders("a.example.com") - 1; n < 30 || n > 70 {
			t.Errorf("%d orders for a certificate that cannot be had, in 40 days", n)
		}
		w.restart() // which reaches the host
		w.getAs(rsaHello("a.example.com"))
		w.ca.FailFinalize("a.example.com", acmetest.Problem{Type: "badCSR", Detail: "no ECDSA here"})
		before := w.orders("a.example.com")
		for range 6 * 60 {
			w.getAs(ecdsaHello("a.example.com"))
			time.Sleep(time.Minute)
		}
		if n := w.orders("a.example.com") - before; n > 12 {
			t.Errorf("%d orders in 6 hours", n)
		}
	})
}

// A renewal is made when it is due, although the host backs off with its second
// certificate, since before a restart too.
func TestRenewalDoesNotWaitForASecondCertificate(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		inBubble(t, func(t *testing.T, w *world) {
			w.m.Backoff = []time.Duration{30 * day}
			w.getAs(rsaHello("a.example.com"))
			time.Sleep(55 * day)
			lift := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Status: http.StatusForbidden})
			w.getAs(ecdsaHello("a.example.com"))
			time.Sleep(time.Minute)
			lift.Lift()
			if restart {
				w.spendExtras("a.example.com")
				w.restart()
				w.m.Backoff = []time.Duration{30 * day}
				w.getAs(rsaHello("a.example.com"))
				w.getAs(ecdsaHello("a.example.com"))
				time.Sleep(time.Minute)
			}
			w.wantOrders("a.example.com", 2)
			time.Sleep(7 * day)
			w.wantOrders("a.example.com", 3)
			if n := len(w.ca.IssuedFor("a.example.com")); n != 2 {
				t.Errorf("restart %v: %d certificates, want that of the renewal too", restart, n)
			}
		})
	}
}

// Strangers' names get no second certificate: those of a wildcard, and of a policy that
// allows any. Those on the list and approved by a policy do.
func TestSecondCertificatesAreForTrustedHosts(t *testing.T) {
	policy := certmgr.HostWhitelist("www.example.org")
	for _, test := range []struct {
		name   string
		list   []string
		policy certmgr.HostPolicy
		want   int
	}{
		{"listed", []string{"www.example.org"}, nil, 1},
		{"by policy", nil, policy, 1},
		{"wildcard", []string{"*.example.org"}, nil, 0},
		{"wildcard before the policy", []string{"*.example.org"}, policy, 0},
		{"any host", nil, certmgr.AllowAnyHost, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Hosts = certmgr.MustAllowlist(test.list...)
				w.m.HostPolicy = test.policy
				w.keep("www.example.org+rsa", entryFor("www.example.org", bundle.RSA, undue))
				for range 100 {
					w.getAs(ecdsaHello("www.example.org"))
					time.Sleep(time.Minute)
				}
				w.wantOrders("www.example.org", test.want)
			})
		})
	}
}

// A second certificate takes an order from what strangers may use, also for a host on
// the list, and comes when there is one again.
func TestSecondCertificatesLeaveOrdersToOthers(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		w.m.OrderBudget = 10
		w.getAs(rsaHello("a.example.com"))
		for range 4 {
			if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
				t.Fatal(err)
			}
		}
		if left := w.m.Snapshot().OrdersLeft; left != 5 {
			t.Fatalf("%d orders left", left)
		}
		w.getAs(ecdsaHello("a.example.com"))
		time.Sleep(time.Second)
		w.wantOrders("a.example.com", 5)
		time.Sleep(20 * time.Minute) // an order comes back in 18
		w.getAs(ecdsaHello("a.example.com"))
		time.Sleep(time.Second)
		w.wantOrders("a.example.com", 6)
	})
}

// A certificate that is due is renewed before its host gets a second one.
func TestRenewalComesBeforeASecondCertificate(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		w.getAs(rsaHello("a.example.com"))
		lift := w.ca.FailFinalize("a.example.com", acmetest.Problem{Type: "serverInternal", Status: 500})
		time.Sleep(62 * day) // its renewal fails
		orders := w.orders("a.example.com")
		time.Sleep(time.Minute)
		w.getAs(ecdsaHello("a.example.com"))
		time.Sleep(time.Second)
		w.wantOrders("a.example.com", orders)
		lift.Lift()
		time.Sleep(27 * time.Hour)
		w.getAs(ecdsaHello("a.example.com"))
		time.Sleep(time.Second)
		if got := w.getAs(ecdsaHello("a.example.com")); got != x509.ECDSA {
			t.Errorf("after the renewal: %v", got)
		}
	})
}

// Many second certificates at once leave slots to renewals and visitors.
func TestSecondCertificatesLeaveSlots(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.MaxIssuing = 4
		for _, host := range []string{"a.example.com", "b.example.com", "c.example.com"} {
			w.keep(host+"+rsa", entryFor(host, bundle.RSA, undue))
		}
		lift := w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		for _, host := range []string{"a.example.com", "b.example.com", "c.example.com"} {
			w.getAs(ecdsaHello(host))
			w.getAs(ecdsaHello(host))
		}
		synctest.Wait()
		if n := w.m.Snapshot().Issuing; n != 1 {
			t.Errorf("second certificates hold %d of 4 slots, want a quarter", n)
		}
		lift.Lift()
	})
}
