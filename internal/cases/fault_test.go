package cases

import (
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

var allFaults = flag.Bool("cases.faults", false, "make each fault at each call of a life; otherwise one in seven")

// accountEntry is the entry of the account's key.
const accountEntry = "acme_account+key"

// outcome is what a life came to.
type outcome struct {
	calls          []call
	orders, issued int
}

// liveWith lives a life with a fault, with one challenge type, and checks what is
// left.
func liveWith(t *T, challenge string, fault call, mode faultMode) (o outcome) {
	t.Helper()
	t.Bubble(func(t *T) { // it fails if a goroutine is left
		l := &life{t: t, ca: acmetest.NewUnstartedServer(), around: newSurroundings(fault, mode), events: new(recorder)}
		l.ca.Challenges = []string{challenge}
		l.ca.ValidateInReply = acmetest.Never // so that authorizations are polled
		l.ca.Processing, l.ca.Lifetime = 500*time.Millisecond, lifetime
		l.ca.StartMemory()
		defer l.ca.Close()
		l.around.ca = l.ca.Client().Transport
		l.live()
		l.checkAccount()
		l.checkCertificate()
		l.m.Close()
		for key := range l.around.entries() {
			if key != host && key != accountEntry && key != visitsEntry {
				t.Errorf("%q is left in the Cache", key)
			}
		}
		l.checkEvents()
		o = outcome{l.around.calls, len(l.ca.Orders()), len(l.ca.Issued())}
	})
	return o
}

// checkAccount checks that there is one account, and that its key is in the Cache.
func (l *life) checkAccount() {
	l.t.Helper()
	accounts := l.ca.Accounts()
	if len(accounts) != 1 {
		l.t.Errorf("%d accounts, want 1", len(accounts))
		return
	}
	block, _ := pem.Decode([]byte(l.around.entries()[accountEntry]))
	if block == nil {
		l.t.Error("the account's key is not in the Cache")
		return
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		l.t.Error(err)
		return
	}
	if print, err := acme.JWKThumbprint(key.Public()); err != nil || print != accounts[0].Thumbprint {
		l.t.Errorf("the CA does not know the account's key in the Cache: %v", err)
	}
}

// checkCertificate checks that one certificate is in service, the Cache's.
func (l *life) checkCertificate() {
	l.t.Helper()
	cert, err := l.m.GetCertificate(hello(host))
	if err != nil {
		l.t.Errorf("no certificate in the end: %v", err)
		return
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Leaf.Raw})
	if !strings.Contains(l.around.entries()[host], string(leaf)) {
		l.t.Error("the Cache has another certificate than the one in service")
	}
	if known := l.m.Snapshot().Hosts; len(known) != 1 {
		l.t.Errorf("%d certificates in service: %v", len(known), known)
	}
	if most := 90 * time.Second; l.longest > most {
		l.t.Errorf("a visitor waited for %v, want %v at most", l.longest, most)
	}
}

// checkEvents checks that an event names the failure. An exchange with the CA that
// is repeated within seconds is none, nor is a deletion that turns out to
// have worked.
func (l *life) checkEvents() {
	l.t.Helper()
	around := l.around
	switch {
	case around.fault.name == "" || around.mode == dies || around.mode == diesAfter:
		return
	case !around.hit: // requests for renewal information depend on chance
		return
	case around.fault.isExchange() && around.mode != panics && len(l.failures) == 0:
		return
	case around.mode == late && strings.HasPrefix(around.fault.name, "delete "):
		return
	}
	told := slices.Clone(l.failures)
	for _, e := range l.events.all() {
		told = append(told, e.String())
	}
	if !slices.ContainsFunc(told, func(text string) bool {
		return slices.ContainsFunc(signs[around.mode], func(sign string) bool { return strings.Contains(text, sign) })
	}) {
		l.t.Errorf("no event names the failure: %q", told)
	}
}

// signs are what an event says of a fault, one of them.
var signs = map[faultMode][]string{
	fails:   {errFault.Error()},
	late:    {errFault.Error()},
	panics:  {"panicked"},
	hangs:   {"did not return", "did not answer"},
	breaks:  {"500"},
	garbles: {"cannot be parsed", "unexpected"},
}

// Whatever happens to one call of the Cache or to one exchange with the CA in a
// server's life, there is one account, at most one order more, and nothing is
// left over at the next start.
func TestFaultAtEachCallOfALife(t *testing.T) {
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		var sound outcome
		table.Run(t, "held/"+challenge, func(t *T) {
			sound = liveWith(t, challenge, call{}, "")
			if sound.orders != 3 || sound.issued != 3 || len(sound.calls) < 60 {
				t.Fatalf("%d orders, %d certificates, %d calls, want 3, 3 and many", sound.orders, sound.issued, len(sound.calls))
			}
		})
		n := 0
		for _, fault := range sound.calls {
			for _, mode := range fault.modes() {
				if n++; !*allFaults && n%7 != 0 {
					continue
				}
				table.Run(t, fmt.Sprintf("held/%s/%v %s", challenge, fault, mode), func(t *T) {
					o := liveWith(t, challenge, fault, mode)
					if o.orders > sound.orders+1 || o.issued > sound.issued+1 {
						t.Errorf("%d orders and %d certificates, without the fault %d and %d", o.orders, o.issued, sound.orders, sound.issued)
					}
				})
			}
		}
	}
}
