// Noname is a server that has no name: clients connect to its IP address, and
// send no server name (SNI). It gets a certificate for the address, which lasts
// six days, as from Let's Encrypt. Then it does the same behind NAT, and shows
// which certificate clients without SNI get from a server that has a name.
//
//	go run ./examples/noname
//
// Everything is on loopback: a fake CA (certmgr/acmetest) that really
// validates, HTTPS servers on free ports, and TLS clients that verify
// certificates. A client sees only an alert without a reason, so the printed
// errors are the server's. The program ends by itself, with status 1 if anything
// is not as described.
package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/examples/internal/columns"
)

const (
	address  = "127.0.0.1"
	address6 = "::1"
	public   = "203.0.113.7" // what NAT translates to address
	name     = "www.example.com"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "noname:", err)
		os.Exit(1)
	}
}

func run() error {
	ca := acmetest.NewUnstartedServer()
	ca.Profiles = acmetest.LetsEncryptProfiles()
	ca.Start()
	defer ca.Close()
	fmt.Printf("Fake CA: %s, with the profiles of Let's Encrypt.\n", ca.URL)
	for _, step := range steps() {
		fmt.Printf("\n%s\n%s\n", step.title, "  "+step.settings)
		if err := step.run(ca); err != nil {
			return fmt.Errorf("%s: %w\n\nWhat the CA was asked:\n%v", step.title, err, ca)
		}
	}
	fmt.Println("\nEverything was as it should be.")
	return nil
}

// step is one server, and a client of it that sends no SNI.
type step struct {
	title    string
	settings string // of the Manager, as in a program
	set      func(m *certmgr.Manager)
	listen   string // the server's address
	dial     string // what the client believes to connect to
	want     string // the name of the certificate that it gets, or empty
	lifetime time.Duration
}

func steps() []step {
	list := certmgr.MustAllowlist
	const shortlived, tlsserver = 160 * time.Hour, 90 * 24 * time.Hour
	return []step{
		{
			title:    "A server on an address, without a name",
			settings: `Hosts: certmgr.MustAllowlist("127.0.0.1")`,
			set:      func(m *certmgr.Manager) { m.Hosts = list(address) },
			listen:   address, dial: address, want: address, lifetime: shortlived,
		},
		{
			title:    "The same with IPv6",
			settings: `Hosts: certmgr.MustAllowlist("::1")`,
			set:      func(m *certmgr.Manager) { m.Hosts = list(address6) },
			listen:   address6, dial: address6, want: address6, lifetime: shortlived,
		},
		{
			title:    "Behind NAT: clients connect to 203.0.113.7, which leads to 127.0.0.1",
			settings: `Hosts: certmgr.MustAllowlist("203.0.113.7")` + "\n  PublicAddrs: {127.0.0.1: 203.0.113.7}",
			set: func(m *certmgr.Manager) {
				m.Hosts = list(public)
				m.PublicAddrs = map[netip.Addr]netip.Addr{netip.MustParseAddr(address): netip.MustParseAddr(public)}
			},
			listen: address, dial: public, want: public, lifetime: shortlived,
		},
		{
			title:    "A server with a name, for clients too old to send it",
			settings: `Hosts: certmgr.MustAllowlist("www.example.com")` + "\n" + `  DefaultHost: "www.example.com"`,
			set:      func(m *certmgr.Manager) { m.Hosts, m.DefaultHost = list(name), name },
			listen:   address, dial: address, want: name, lifetime: tlsserver,
		},
		{
			title:    "A server with a name alone",
			settings: `Hosts: certmgr.MustAllowlist("www.example.com")`,
			set:      func(m *certmgr.Manager) { m.Hosts = list(name) },
			listen:   address, dial: address,
		},
	}
}

// run starts the server, visits it twice, and checks what the client gets.
func (st step) run(ca *acmetest.Server) error {
	s, err := startSite(ca, st)
	if errors.Is(err, errNoIPv6) {
		fmt.Println("  (this machine has no IPv6)")
		return nil
	}
	if err != nil {
		return err
	}
	defer s.stop()
	before := ca.Count(acmetest.NewOrder)
	for _, visit := range []string{"first client", "second client"} {
		leaf, err := s.visit(ca)
		orders := ca.Count(acmetest.NewOrder) - before
		switch {
		case st.want == "" && err != nil && orders == 0:
			show(visit, "refused: "+s.refusal().Error())
			continue
		case st.want == "":
			return fmt.Errorf("%s was served, or the CA got %d orders", visit, orders)
		case err != nil:
			return fmt.Errorf("%s: %w", visit, err)
		}
		lifetime := leaf.NotAfter.Sub(leaf.NotBefore).Round(time.Hour)
		if leaf.VerifyHostname(st.want) != nil || lifetime != st.lifetime || orders != 1 {
			return fmt.Errorf("%s got a certificate for %v %v, for %v, after %d orders", visit, leaf.DNSNames, leaf.IPAddresses, lifetime, orders)
		}
		show(visit, fmt.Sprintf("certificate for %s, %.1f days; orders so far: %d", st.want, lifetime.Hours()/24, orders))
	}
	return nil
}

// show prints a line, wrapped.
func show(label, text string) {
	const indent = 17
	fmt.Printf("  %-*s%s\n", indent-2, label, columns.Wrap(text, strings.Repeat(" ", indent), indent))
}
