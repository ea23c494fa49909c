package certmgr_test

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// sixDays is the lifetime of Let's Encrypt's certificates for addresses, which is
// shorter than that of its orders.
const sixDays = 160 * time.Hour

// withoutDates has the Manager not know the CA's clock.
func (w *world) withoutDates(m *certmgr.Manager) {
	client := *w.ca.Client()
	client.Transport = editHeader{client.Transport, "Age", "3600"}
	m.Client = &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: &client}
}

// A certificate that the CA issued, and could not be downloaded for days, is as old
// as its order. It says nothing about the clock, and once it has expired another
// one is ordered at once.
func TestCertificateThatWasIssuedDaysAgo(t *testing.T) {
	cases := map[string]struct {
		outage time.Duration
		orders int // once the outage is over
		edit   func(*world, *certmgr.Manager)
	}{
		"a third of its lifetime":       {outage: 54 * time.Hour, orders: 1},
		"nearly all of it":              {outage: 155 * time.Hour, orders: 1},
		"all of it":                     {outage: 165 * time.Hour, orders: 2},
		"a third, CA's clock not known": {outage: 54 * time.Hour, orders: 1, edit: (*world).withoutDates},
		"all, CA's clock not known":     {outage: 165 * time.Hour, orders: 2, edit: (*world).withoutDates},
	}
	for name, c := range cases {
		for how, restarts := range map[string]bool{"": false, ", restarted": true} {
			t.Run(name+how, func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					start := func() {
						w.m.Close()
						w.m = w.manager()
						if c.edit != nil {
							c.edit(w, w.m)
						}
						w.reach()
					}
					start()
					fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.Certificate}, 500, nil, acmetest.Problem{})
					w.get("a.example.com")
					time.Sleep(c.outage)
					fault.Lift()
					if restarts {
						start()
					}
					for range 10 { // the longest backoff of an outage is shorter
						w.get("a.example.com")
						time.Sleep(time.Minute)
					}
					cert := w.mustGet("a.example.com")
					synctest.Wait()
					w.wantOrders("a.example.com", c.orders)
					if e := w.events.of(audit.ClockOff); len(e) > 0 {
						t.Errorf("the clock is right, but: %v", e)
					}
					time.Sleep(time.Until(cert.Leaf.NotAfter) - time.Minute)
					if next := w.mustGet("a.example.com"); next.Leaf.Equal(cert.Leaf) {
						t.Errorf("not renewed a minute before its end")
					}
				}, func(ca *acmetest.Server) { ca.Lifetime = sixDays })
			})
		}
	}
}
