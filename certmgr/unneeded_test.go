package certmgr_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// pass lets days go by, on each of which clients of host come.
func (w *world) pass(days int, clients ...*tls.ClientHelloInfo) {
	w.t.Helper()
	for range days {
		for _, hello := range clients {
			w.getAs(hello)
		}
		time.Sleep(day)
	}
}

// issued returns how many certificates of each key type the CA issued for host.
func (w *world) issued(host string) (ecdsa, rsa int) {
	for _, leaf := range w.ca.IssuedFor(host) {
		if leaf.PublicKeyAlgorithm == x509.RSA {
			rsa++
		} else {
			ecdsa++
		}
	}
	return ecdsa, rsa
}

func (w *world) wantIssued(host string, ecdsa, rsa int) {
	w.t.Helper()
	if e, r := w.issued(host); e != ecdsa || r != rsa {
		w.t.Errorf("%d ECDSA and %d RSA certificates for %s, want %d and %d", e, r, host, ecdsa, rsa)
	}
}

var (
	takesECDSA = ecdsaHello("a.example.com")
	takesRSA   = rsaHello("a.example.com")
)

// A scanner needed RSA once: that is renewed while a lifetime has not passed since, and
// then no more. It is served to its end, and leaves nothing behind. A client that comes
// later gets a new one.
func TestKeyTypeThatNobodyNeedsIsNotRenewed(t *testing.T) {
	t.Parallel()
	for _, byPolicy := range []bool{false, true} {
		t.Run(fmt.Sprint("by policy ", byPolicy), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				if byPolicy {
					w.m.Hosts, w.m.HostPolicy = nil, certmgr.HostWhitelist("a.example.com")
				}
				w.getAs(takesRSA)
				w.pass(125, takesECDSA) // due on day 60, and on day 120
				w.wantIssued("a.example.com", 3, 2)
				skipped := w.events.of(audit.RenewalSkipped)
				if len(skipped) != 1 || skipped[0].KeyType != "RSA" || skipped[0].Reason != "no client needed RSA in the last 90.0 days" {
					t.Errorf("%d events: %v", len(skipped), skipped)
				}
				rsa := w.m.Snapshot().Hosts[1]
				if rsa.RenewalCause != certmgr.RenewalCauseUnneeded || !rsa.RenewAt.IsZero() || rsa.State != certmgr.StateValid {
					t.Errorf("%+v", rsa)
				}
				if at := w.m.Metrics().SoonestExpiry; !at.After(rsa.NotAfter) {
					t.Error("the expiry of what is not renewed is an alarm")
				}
				w.pass(30, takesECDSA)
				if certmgr.InMemory(w.m, "a.example.com") != 1 || certmgr.Scheduled(w.m) != 1 {
					t.Errorf("it expired, and of the host there is: %+v", w.m.Snapshot().Hosts)
				}
				if n := len(w.events.of(audit.CertificateExpired)) + len(w.events.of(audit.RenewalLate)) + len(w.events.of(audit.RenewalSkipped)); n != 1 {
					t.Errorf("%d events, want that from before alone", n)
				}
				w.wantIssued("a.example.com", 3, 2)
				w.getAs(takesRSA)
				w.wantIssued("a.example.com", 3, 3)
			})
		})
	}
}

// One client within each lifetime is enough.
func TestKeyTypeThatIsNeededNowAndThenIsRenewed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		for range 5 {
			start := time.Now()
			if got := w.getAs(takesRSA); got != x509.RSA {
				t.Errorf("got %v", got)
			}
			if time.Since(start) > time.Second {
				t.Errorf("the client waited for %v", time.Since(start))
			}
			w.pass(85, takesECDSA)
		}
		if n := len(w.events.of(audit.RenewalSkipped)); n != 0 {
			t.Errorf("%d events", n)
		}
	})
}

// A client that comes while the certificate is left to expire does not wait, and has it
// renewed.
func TestClientBringsBackARenewal(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		w.getAs(takesRSA)
		w.pass(145, takesECDSA)
		w.wantIssued("a.example.com", 3, 2)
		w.getAs(takesRSA) // from memory, 4 days before its end
		time.Sleep(time.Minute)
		w.wantIssued("a.example.com", 3, 3)
		if rsa := w.m.Snapshot().Hosts[1]; rsa.RenewalCause == certmgr.RenewalCauseUnneeded {
			t.Errorf("%+v", rsa)
		}
	})
}

// A host keeps at least one certificate, whether clients come or not: ECDSA of two.
func TestHostKeepsOneCertificate(t *testing.T) {
	t.Parallel()
	t.Run("RSA alone", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.getAs(takesRSA)
			time.Sleep(365 * day)
			w.wantIssued("a.example.com", 0, 7)
		})
	})
	t.Run("both", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.getAs(takesRSA)
			w.getAs(takesECDSA)
			time.Sleep(365 * day)
			w.wantIssued("a.example.com", 7, 2)
		})
	})
	t.Run("both, and clients that take RSA alone", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.getAs(takesRSA)
			w.getAs(takesECDSA)
			w.pass(365, takesRSA)
			w.wantIssued("a.example.com", 2, 7)
		})
	})
}

// What clients need is known after restarts, and to the other machines of a fleet.
func TestNeedsSurviveRestarts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		every int // days between two clients that take ECDSA
		want  bool
	}{{"needed", 50, true}, {"not needed", 1000, false}} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.getAs(takesRSA)
				w.getAs(takesECDSA)
				time.Sleep(time.Minute)
				for d := range 55 {
					if d*7%test.every < 7 && d > 0 {
						w.getAs(takesECDSA)
					}
					w.pass(7, takesRSA)
					w.restart()
					w.m.Start(t.Context()) // which loads ECDSA
					time.Sleep(time.Minute)
				}
				ecdsa, rsa := w.issued("a.example.com")
				if rsa != 7 || test.want && ecdsa < 6 || !test.want && ecdsa > 3 {
					t.Errorf("%d ECDSA and %d RSA certificates", ecdsa, rsa)
				}
			})
		})
	}
}

// A record from before key types were recorded says that any of them may be needed.
func TestOldRecordOfVisitsTellsNoKeyTypes(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		w.keep("a.example.com", entryFor("a.example.com", bundle.ECDSA, undue))
		w.keep("a.example.com+rsa", entryFor("a.example.com", bundle.RSA, undue))
		w.cache.Cache.Put(t.Context(), visitsKey, fmt.Appendf(nil, `{"hosts":{"a.example.com":{"since":%q,"asked":%q}}}`,
			time.Now().Add(-400*day).Format(time.RFC3339), time.Now().Format(time.RFC3339)))
		w.m.Start(t.Context())
		w.getAs(takesRSA)
		w.pass(70, takesRSA)
		if n := len(w.events.of(audit.RenewalSkipped)); n != 0 {
			t.Errorf("%d events about ECDSA, which was needed 70 days ago, for all that is known", n)
		}
	})
}
