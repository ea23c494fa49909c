package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/preflight"
)

// movedAway stands for the DNS: every name leads to another machine.
type movedAway struct{}

func (movedAway) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("192.0.2.7")}, nil
}

// refuse stands for the network: nothing listens there.
func refuse(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("connection refused")
}

// A name that does not lead to this server costs no order.
func Example_preflight() {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	m := &certmgr.Manager{
		Prompt:            certmgr.AcceptTOS,
		Hosts:             certmgr.MustAllowlist("www.example.com"),
		Client:            &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
		Preflight:         preflight.Enforce,
		PreflightResolver: movedAway{}, // nil means net.DefaultResolver
		PreflightDial:     refuse,      // nil means a net.Dialer
	}
	defer m.Close()

	err := m.Obtain(context.Background(), "www.example.com")
	fmt.Println("unreachable:", errors.Is(err, certmgr.ErrUnreachable), "orders:", ca.Count(acmetest.NewOrder))
	var found *preflight.Error
	if errors.As(err, &found) {
		for _, f := range found.Findings {
			fmt.Println(f.Addr, f.Challenge, f.Err)
		}
	}
	// Output:
	// unreachable: true orders: 0
	// 192.0.2.7:443 tls-alpn-01 connection refused
}
