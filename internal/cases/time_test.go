package cases

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// B26: private CAs issue for hours, and backdate certificates
// (opnsense/plugins#3479, acmesh-official/acme.sh#3875). No client is refused,
// and no event reports a wrong clock, as it agrees with the CA's Date.
func TestAShortCertificateThatIsDatedBackSaysNothingOfTheClock(t *testing.T) {
	const day = 24 * time.Hour
	table.Run(t, "B26", func(t *T) {
		for _, tt := range []struct {
			name       string
			left, back time.Duration // from now to NotAfter, and from NotBefore to now
		}{
			{"24 h, 1 min back", day, time.Minute},
			{"8 h, 1 h back", 8 * time.Hour, time.Hour},
			{"4 h, 1 h back", 4 * time.Hour, time.Hour},
			{"3 h, 1 h back", 3 * time.Hour, time.Hour},
			{"1 h, 1 h back", time.Hour, time.Hour},
			{"1 h, 5 min back", time.Hour, 5 * time.Minute},
			{"10 min, 1 min back", 10 * time.Minute, time.Minute},
			{"5 min, 30 s back", 5 * time.Minute, 30 * time.Second},
			{"24 h, 12 h back", day, 12 * time.Hour},
			{"10 d, 5 h back", 10 * day, 5 * time.Hour},
		} {
			t.Run(tt.name, func(t *T) {
				bubble(t, func(t *T, w *world) {
					w.ca.EditCertificate(host, func(leaf *x509.Certificate) {
						leaf.NotBefore, leaf.NotAfter = time.Now().Add(-tt.back), time.Now().Add(tt.left)
					})
					mustObtain(t, w, host)
					const visitors = 20 // in each of 5 lifetimes
					for range 5 * visitors {
						time.Sleep(tt.left / visitors)
						if _, err := w.get(host); err != nil {
							t.Errorf("a visitor is refused: %v", err)
							break
						}
					}
					for _, kind := range []audit.Kind{audit.ClockOff, audit.IssuanceFailed} {
						if events := w.events.of(kind); len(events) > 0 {
							t.Errorf("%d events %s, the first: %v", len(events), kind, events[0].Err)
						}
					}
				})
			})
		}
	})
}

// B49: certificates that never expire (RFC 5280, section 4.1.2.5), or expire on
// a leap day, after 2038, or where GeneralizedTime begins. They are served and
// renewed.
func TestOddDatesOfCertificatesAreServed(t *testing.T) {
	table.Run(t, "B49", func(t *T) {
		for _, tt := range []struct {
			name string
			end  time.Time
		}{
			{"no end", time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
			{"leap day", time.Date(2000, 2, 29, 23, 59, 59, 0, time.UTC)},
			{"2039", time.Date(2039, 1, 19, 3, 14, 8, 0, time.UTC)},
			{"2050", time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC)},
		} {
			t.Run(tt.name, func(t *T) {
				bubble(t, func(t *T, w *world) {
					w.ca.EditCertificate(host, func(leaf *x509.Certificate) { leaf.NotAfter = tt.end }, acmetest.Times(1))
					for day := range 100 {
						if _, err := w.get(host); err != nil {
							t.Fatalf("on day %d: %v", day, err)
						}
						time.Sleep(24 * time.Hour)
					}
					w.restart()
					if _, err := w.get(host); err != nil {
						t.Errorf("after a restart: %v", err)
					}
					if n := w.issued(); n > 3 {
						t.Errorf("%d certificates in 100 days", n)
					}
				})
			})
		}
	})
}
