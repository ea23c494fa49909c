package cases

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// H09 (hostile review): strangers with made-up names do not use up the
// account's orders, which listed hosts need: Let's Encrypt allows 300 in 3
// hours.
func TestStrangersLeaveOrdersToTheList(t *testing.T) {
	limits := func(ca *acmetest.Server) {
		ca.RateLimits = acmetest.LetsEncryptRateLimits()
		ca.RateLimits.Requests = nil
		ca.RateLimits.RegisteredDomain = publicsuffix.EffectiveTLDPlusOne
	}
	for name, policy := range map[string]certmgr.HostPolicy{
		"AllowAnyHost":         certmgr.AllowAnyHost,
		"policy that says yes": func(context.Context, string) error { return nil },
	} {
		table.Run(t, "H09/"+name, func(t *T) {
			bubbleCA(t, limits, func(t *T, w *world) {
				w.m.HostPolicy, w.m.HandshakeWait, w.m.OrderBudget = policy, -1, 300 // as with Let's Encrypt's directory
				w.ca.Unresolve("*")                                                  // the strangers' names lead nowhere, which costs an order as well
				w.ca.Resolve(host, acmetest.Target{TLSConfig: w.m.TLSConfig()})
				for i := range 400 {
					w.get(fmt.Sprintf("www.made-up-%d.net", i))
					time.Sleep(time.Second)
				}
				if down := w.events.of(audit.CAUnavailable); len(down) > 0 {
					t.Errorf("after %d orders the CA refuses all: %v", w.newOrders(), down[0])
				}
				if took, err := w.until(host, time.Second, 30*time.Second); err != nil {
					t.Errorf("a host on the list is refused for %v: %v", took, err)
				}
			})
		})
	}
}
