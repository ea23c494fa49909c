package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// visitors are the clients of a site.
type visitors struct {
	site *site
	away string // the name that cannot get a certificate now

	came    int
	refused int           // refused for that reason
	wronged error         // the first refusal without it
	longest time.Duration // longest wait
}

// visit makes a client connect to a name.
func (v *visitors) visit(host string) {
	begin := time.Now()
	err := v.handshake(host)
	v.came++
	v.longest = max(v.longest, time.Since(begin))
	switch {
	case err == nil:
	case host == v.away:
		v.refused++
	case v.wronged == nil:
		v.wronged = fmt.Errorf("%s: a visitor of %s was refused: %w", stamp(begin), host, err)
	}
}

// handshake makes the handshake of a client that verifies the certificate. A
// pipe replaces sockets, which do not work with virtual time. The client sees
// only an alert; the server's error says why.
func (v *visitors) handshake(host string) error {
	client, server := net.Pipe()
	reason := make(chan error, 1)
	go func() {
		reason <- tls.Server(server, v.site.certs.TLSConfig()).Handshake()
		_ = server.Close()
	}()
	err := tls.Client(client, &tls.Config{ServerName: host, RootCAs: v.site.ca.Roots()}).Handshake()
	_ = client.Close()
	return errors.Join(err, <-reason)
}

// summary prints the results of the year.
func (y *year) summary(out io.Writer) {
	row := func(what string, value any) { fmt.Fprintf(out, "%-58s %6v\n", what, value) }
	orders := y.ca.Orders()
	replacing := 0
	for _, o := range orders {
		if o.Replaces != "" {
			replacing++
		}
	}
	v := &y.visitors
	fmt.Fprintln(out)
	row("visitors", v.came)
	row("  refused while "+login+" had no certificate", v.refused)
	row("  longest wait, while each answer of the CA takes 200 ms", v.longest.Round(time.Millisecond))
	row("orders for 2 names, failed ones included", len(orders))
	row("  that told the CA which certificate they replace", replacing)
	row("certificates", len(y.ca.Issued()))
	row("questions to the CA about when to renew", y.ca.Count(acmetest.RenewalInfo))
}
