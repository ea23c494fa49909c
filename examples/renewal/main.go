// Renewal simulates a year of a server in a few seconds and prints it as a
// timeline: certificates that are renewed when the CA suggests it, a revocation
// announced by the CA, an outage of the CA, a name that moves away, lifetimes
// that shrink from 90 to 6 days, and a client a day for each name.
//
//	go run ./examples/renewal
//
// The CA is a fake one (certmgr/acmetest) that really validates, clients make
// real TLS handshakes and verify the certificates, and the Manager is as in
// production: only the time is virtual, by testing/synctest. No two runs are
// the same, since renewals are spread at random. The program exits with status
// 1 if a client was refused without cause.
//
// The events of the year are in this file; the server is in site.go, the
// clients are in visitors.go, and diary.go prints the timeline from the
// Manager's audit events.
package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

const (
	www   = "www.example.com"
	login = "login.example.com"

	day = 24 * time.Hour
)

// A bubble of virtual time needs a *testing.T. Outside of go test, testing.Main
// provides one; it is kept for programs that run tests themselves. It exits
// with status 1 if the test fails, and prints PASS or FAIL to os.Stdout, which
// is redirected here to keep it out of the timeline.
func main() {
	out := os.Stdout
	os.Stdout = nil
	all := func(_, _ string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "renewal", F: func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if err := run(out); err != nil {
				fmt.Fprintln(os.Stderr, "renewal:", err)
				t.Fail()
			}
		})
	}}}, nil, nil)
}

// run simulates the year, which begins with that of the bubble's clock. All of
// it must be inside the bubble.
func run(out io.Writer) error {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	ca.Delay(acmetest.Match{}, 200*time.Millisecond) // makes a wait for the CA visible
	d := &diary{out: out}
	s := &site{ca: ca, cache: new(cache.Memory), audit: d.event}
	defer func() { _ = s.stop() }()
	y := &year{ca: ca, site: s, visitors: visitors{site: s}, diary: d}
	if err := y.live(); err != nil {
		return fmt.Errorf("%w\n%v", err, ca) // prints the log of requests
	}
	y.summary(out)
	return y.visitors.wronged
}

// year is the site, the CA and the clients.
type year struct {
	ca       *acmetest.Server
	site     *site
	visitors visitors
	diary    *diary
	lifetime func() // ends the current lifetime of issued certificates
}

// live runs the events from January to December.
func (y *year) live() error {
	y.diary.chapter("The server starts for the first time. The CA issues for 90 days.")
	y.issueFor(90 * day)
	if err := y.site.start(); err != nil {
		return err
	}

	y.until(date(time.March, 15))
	y.diary.chapter("The server is restarted. Its certificates are in the cache.")
	if err := y.site.restart(); err != nil {
		return err
	}

	y.until(date(time.April, 10))
	y.diary.chapter("The CA has made a mistake and will have to revoke the certificate of " + www + ".")
	issued := y.ca.IssuedFor(www)
	y.ca.SetRenewalWindow(issued[len(issued)-1], acmetest.RenewalWindow{
		Start:          time.Now().Add(-2 * time.Hour),
		End:            time.Now().Add(-time.Hour),
		ExplanationURL: "https://ca.example/incidents/42",
	})

	y.until(date(time.April, 20))
	y.diary.chapter("From now on the CA issues for 45 days.")
	y.issueFor(45 * day)

	y.until(date(time.July, 1))
	y.outage()
	y.until(date(time.September, 10))
	if err := y.moveAway(); err != nil {
		return err
	}

	y.until(date(time.November, 1))
	y.diary.chapter("From now on the CA issues for 6 days.")
	y.issueFor(160 * time.Hour)

	y.until(date(time.December, 31))
	y.diary.chapter("The year is over.")
	return y.site.stop()
}

// outage is two weeks without a CA, beginning when a certificate is due.
func (y *year) outage() {
	y.until(y.site.status(www).RenewAt.Add(-time.Hour))
	y.diary.chapter("The CA goes down, an hour before the renewal of " + www + ".")
	repair := y.ca.Drop(acmetest.Match{})
	y.until(y.site.status(www).NotAfter.Add(-12 * time.Hour))
	y.diary.chapter("The CA is back. The certificate of " + www + " would have ended in 12 hours.")
	repair.Lift()
}

// moveAway is a name that leads to another machine for three weeks, and clients
// that still connect here.
func (y *year) moveAway() error {
	y.until(y.site.status(login).RenewAt.Add(-day))
	y.diary.chapter(login + " moves to other machines, but its visitors have the old address.")
	y.site.leadAway(login)
	y.until(y.site.status(login).NotAfter)
	y.visitors.away = login // it can no longer get a certificate
	y.until(time.Now().Add(5 * day))

	y.diary.chapter(login + " comes back, and the operator calls Obtain instead of waiting for the next attempt.")
	y.site.leadHere(login)
	y.visitors.away = ""
	return y.site.certs.Obtain(context.Background(), login)
}

// until lets time pass. A client asks for each name at noon.
func (y *year) until(t time.Time) {
	for {
		noon := time.Now().Add(day / 2).Truncate(day).Add(day / 2) // the next one
		if noon.After(t) {
			break
		}
		time.Sleep(time.Until(noon))
		y.visitors.visit(www)
		y.visitors.visit(login)
	}
	time.Sleep(time.Until(t))
}

// issueFor changes the lifetime of new certificates.
func (y *year) issueFor(lifetime time.Duration) {
	if y.lifetime != nil {
		y.lifetime()
	}
	y.lifetime = y.ca.EditCertificate("*", func(leaf *x509.Certificate) {
		leaf.NotAfter = leaf.NotBefore.Add(lifetime - time.Second) // NotAfter is inclusive
	}).Lift
}

// date returns a date in the bubble's first year.
func date(month time.Month, day int) time.Time {
	return time.Date(2000, month, day, 0, 0, 0, 0, time.UTC)
}
