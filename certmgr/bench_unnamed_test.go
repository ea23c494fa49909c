package certmgr_test

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// BenchmarkHotUnnamed is BenchmarkHot for clients that send no SNI, or the
// address as SNI.
func BenchmarkHotUnnamed(b *testing.B) {
	const addr = "2001:db8::1"
	w := newBenchAddress(b, addr)
	conn := localConn{local: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[2001:db8::1]:443"))}
	for name, sni := range map[string]string{"none": "", "address": addr} {
		b.Run("sni="+name, func(b *testing.B) {
			hello := benchHello(b, "")
			hello.ServerName, hello.Conn = sni, conn
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.GetCertificate(hello); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// newBenchAddress returns a Manager with a certificate for an address.
func newBenchAddress(b *testing.B, addr string) *certmgr.Manager {
	b.Helper()
	ca := acmetest.NewServer()
	b.Cleanup(ca.Close)
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  new(cache.Memory),
		Hosts:  certmgr.MustAllowlist(addr),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
		Audit:  func(context.Context, audit.Event) {},
	}
	b.Cleanup(func() { m.Close() })
	ca.Resolve("*", acmetest.Target{TLSConfig: m.TLSConfig()})
	if err := m.Obtain(b.Context(), addr); err != nil {
		b.Fatal(err)
	}
	return m
}
