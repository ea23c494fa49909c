package certmgr_test

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// noDate is a network whose replies say nothing of the CA's clock.
type noDate struct{ http.RoundTripper }

func (n noDate) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := n.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Header.Del("Date")
	}
	return res, err
}

// backdates says how a CA dates its certificates: from NotBefore to now, and from
// now to NotAfter.
type backdates struct{ back, left time.Duration }

func (b backdates) String() string { return fmt.Sprintf("%v left, %v back", b.left, b.back) }

// A CA may backdate certificates as far as it likes. They are renewed in the middle
// of what is left, no client is refused, and only a clock that is off is called so.
func TestCertificatesThatAreDatedBackAreRenewedInTime(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	dates := []backdates{
		{0, hour}, {hour, hour}, {3 * hour, 6 * hour}, {3 * hour, hour}, {30 * hour, hour},
		{12 * hour, 24 * hour}, {2 * day, 7 * day}, {2 * day, 5 * day}, {30 * day, 60 * day}, {time.Minute, 5 * time.Minute},
	}
	clocks := []struct {
		name   string
		ahead  time.Duration // the CA's clock
		silent bool          // no Date
		asked  bool          // the CA says when to renew, going by its dates
		events int           // of a clock that is off, at most
	}{
		{"the clocks agree", 0, false, false, 0},
		{"renewal information", 0, false, true, 0},
		{"a minute apart", -time.Minute, false, false, 0},
		{"no Date", 0, true, false, 1},
		{"the local clock is behind", 20 * time.Minute, false, false, 1},
		{"the local clock is ahead", -7 * time.Minute, false, false, 1},
	}
	for i, clock := range clocks {
		t.Run(clock.name, func(t *testing.T) {
			for j, d := range dates {
				if !runsRow(i+j, 5) {
					continue
				}
				if d.left < 10*clock.ahead.Abs() || clock.silent && d.back > 4*d.left {
					continue // nothing can be known then
				}
				t.Run(d.String(), func(t *testing.T) {
					inBubble(t, func(t *testing.T, w *world) {
						w.ca.SetClockSkew(clock.ahead)
						if clock.silent {
							client := *w.ca.Client()
							client.Transport = noDate{client.Transport}
							w.m.Client = &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: &client}
						}
						w.ca.EditCertificate("*", func(leaf *x509.Certificate) {
							now := time.Now().Add(clock.ahead)
							leaf.NotBefore, leaf.NotAfter = now.Add(-d.back), now.Add(d.left)
						})
						most, soonest, latest := 2.0, 0.4, 0.75 // in and of what is left
						if clock.asked {
							most, soonest = 4, 0.2
						}
						if clock.silent {
							most, soonest, latest = 3, 0.3, 1
						}
						w.checkRenewals(t, d.left, most, soonest, latest)
						if e := w.events.of(audit.ClockOff); len(e) > clock.events {
							t.Errorf("%d events of a clock that is off, want at most %d: %v", len(e), clock.events, e[0].Err)
						}
					}, func(ca *acmetest.Server) { ca.NoRenewalInfo = !clock.asked })
				})
			}
		})
	}
}

// checkRenewals looks at one host's renewals over ten lifetimes: how many there are
// in each, and how much of it has passed.
func (w *world) checkRenewals(t *testing.T, lifetime time.Duration, most, soonest, latest float64) {
	t.Helper()
	cert := w.mustGet("a.example.com")
	began := time.Now()
	const looks = 40
	for range 10 * looks {
		time.Sleep(lifetime / looks)
		next := w.mustGet("a.example.com")
		if next.Leaf.Equal(cert.Leaf) {
			continue
		}
		if used := float64(time.Since(began)) / float64(lifetime); used < soonest || used > latest {
			t.Errorf("renewed when %.2f of what was left had passed, want %v to %v", used, soonest, latest)
		}
		cert, began = next, time.Now()
	}
	if n := w.orders("a.example.com"); n < 10 || float64(n) > 12*most {
		t.Errorf("%d orders in 10 lifetimes, want at most %v in each", n, most)
	}
	if e := w.events.of(audit.IssuanceFailed); len(e) > 0 {
		t.Errorf("%d issuances failed: %v", len(e), e[0].Err)
	}
}

// A CA that dates certificates so that they do not fit its own clock is to blame, and
// not the local clock.
func TestDatesThatDoNotFitTheCAsClockAreTheCAsFault(t *testing.T) {
	for name, from := range map[string]time.Duration{"ended": -10 * day, "begins later": day} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.ca.WrongDates("*", time.Now().Add(from), time.Now().Add(from+7*day))
				if _, err := w.get("a.example.com"); (err != nil) != (from < 0) {
					t.Errorf("got %v", err)
				}
				e := w.events.of(audit.ClockOff)
				if len(e) != 1 || !strings.Contains(e[0].Err.Error(), "the CA has to correct its dates") || strings.Contains(e[0].Err.Error(), "set the clock") {
					t.Errorf("events: %v", e)
				}
				time.Sleep(day)
				if n := w.orders("a.example.com"); n > 3 {
					t.Errorf("%d orders in a day", n)
				}
			})
		})
	}
}
