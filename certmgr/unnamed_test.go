package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// localConn is a connection that was made to an address.
type localConn struct {
	net.Conn
	local net.Addr
}

func (c localConn) LocalAddr() net.Addr  { return c.local }
func (c localConn) RemoteAddr() net.Addr { return nil }

// panicConn is a dummy.
type panicConn struct{ net.Conn }

// otherAddr is the address of a connection of a kind of its own.
type otherAddr string

func (otherAddr) Network() string  { return "proxied" }
func (a otherAddr) String() string { return string(a) }

func connTo(addr string) net.Conn {
	return localConn{local: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 443))}
}

// without is a handshake of a client that has sent sni on a connection.
func (w *world) without(sni string, conn net.Conn) (*tls.Certificate, error) {
	return w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: sni, Conn: conn})
}

// wantHost checks that a client that sends sni on a connection gets the
// certificate of a host.
func (w *world) wantHost(sni string, conn net.Conn, host string) {
	w.t.Helper()
	cert, err := w.without(sni, conn)
	if err != nil || cert.Leaf.VerifyHostname(host) != nil {
		w.t.Errorf("SNI %q: %v; want a certificate for %s", sni, err, host)
	}
}

// wantNothing checks that a client is refused without any work.
func (w *world) wantNothing(sni string, conn net.Conn, want error) error {
	w.t.Helper()
	w.cache.reads()
	orders := w.ca.Count(acmetest.NewOrder)
	cert, err := w.without(sni, conn)
	if cert != nil || !errors.Is(err, want) {
		w.t.Errorf("SNI %q: %v, want %v", sni, err, want)
	}
	if n := w.ca.Count(acmetest.NewOrder) - orders; n != 0 || len(w.cache.otherReads()) != 0 {
		w.t.Errorf("SNI %q: it costs %d orders, or reads of the Cache", sni, n)
	}
	return err
}

// A client without SNI, or with an address as SNI, gets the certificate of the
// address that it connected to, whatever kind of connection says so, and no
// other.
func TestClientWithoutSNIGetsTheLocalAddress(t *testing.T) {
	addressWorld(t, func(t *testing.T, w *world) {
		for _, conn := range []net.Conn{
			connTo("192.0.2.1"), connTo("::ffff:192.0.2.1"),
			localConn{local: net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:443"))}, // QUIC
			localConn{local: otherAddr("192.0.2.1:443")},
		} {
			w.wantHost("", conn, "192.0.2.1")
			w.wantHost("192.0.2.1", conn, "192.0.2.1")
			w.wantHost("::ffff:192.0.2.1", conn, "192.0.2.1")
			w.wantHost("a.example.com", conn, "a.example.com")
		}
		for _, sni := range []string{"", "2001:db8::1", "[2001:db8::1]", "2001:DB8::0001"} {
			w.wantHost(sni, connTo("2001:db8::1"), "2001:db8::1")
		}
		for _, conn := range []net.Conn{connTo("192.0.2.2"), connTo("2001:db8::1"), connTo("fe80::1"), connTo("0.0.0.0")} {
			w.wantNothing("192.0.2.1", conn, certmgr.ErrBadServerName)
		}
		for _, conn := range []net.Conn{
			nil, panicConn{}, localConn{}, localConn{local: (*net.TCPAddr)(nil)}, localConn{local: &net.TCPAddr{}},
			localConn{local: otherAddr("pipe")}, localConn{local: otherAddr("")}, connTo("192.0.2.2"), connTo("::"),
		} {
			w.wantNothing("", conn, certmgr.ErrNoServerName)
			w.wantNothing("192.0.2.1", conn, certmgr.ErrBadServerName)
			w.wantNothing("192.0.2.9", conn, certmgr.ErrBadServerName)
		}
		err := w.wantNothing("", connTo("192.0.2.2"), certmgr.ErrNoServerName)
		if !strings.Contains(err.Error(), "192.0.2.2, which it connected to, is not listed") {
			t.Errorf("the error does not name the address: %v", err)
		}
		w.wantOrders("192.0.2.1", 1)
		w.wantOrders("2001:db8::1", 1)

		w.m.Hosts.Remove("192.0.2.1")
		w.wantNothing("", connTo("192.0.2.1"), certmgr.ErrNoServerName)
		w.wantNothing("192.0.2.1", connTo("192.0.2.1"), certmgr.ErrHostNotAllowed)
	})
}

// Missing SNI is no way to an answer to a challenge.
func TestChallengeWithoutSNIIsRefused(t *testing.T) {
	addressWorld(t, func(t *testing.T, w *world) {
		w.m.DefaultHost = "a.example.com"
		w.mustObtain("192.0.2.1")
		for _, sni := range []string{"", "192.0.2.1"} {
			_, err := w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: sni, Conn: connTo("192.0.2.1"), SupportedProtos: []string{acme.ALPNProto}})
			if err == nil || errors.Is(err, certmgr.ErrCacheMiss) {
				t.Errorf("SNI %q: %v", sni, err)
			}
		}
	})
}

// DefaultHost is for clients without SNI whose address has no certificate, and
// for nobody else.
func TestDefaultHost(t *testing.T) {
	for _, host := range []string{"B.example.com.", "[2001:db8::1]"} {
		t.Run(host, func(t *testing.T) {
			addressWorld(t, func(t *testing.T, w *world) {
				w.m.Hosts.Add("b.example.com")
				w.m.DefaultHost = host
				want := strings.Trim(strings.ToLower(host), "[].")
				for _, conn := range []net.Conn{nil, panicConn{}, connTo("192.0.2.2"), localConn{local: otherAddr("pipe")}} {
					w.wantHost("", conn, want)
				}
				w.wantHost("", connTo("192.0.2.1"), "192.0.2.1")
				w.wantNothing("unknown.example.com", nil, certmgr.ErrHostNotAllowed)
				w.wantNothing("192.0.2.2", connTo("192.0.2.2"), certmgr.ErrHostNotAllowed)
				w.wantNothing("192.0.2.3", connTo("192.0.2.2"), certmgr.ErrBadServerName)
				w.wantNothing("-", nil, certmgr.ErrBadServerName)
				if want == "2001:db8::1" {
					w.wantHost("2001:db8::1", connTo("10.0.0.1"), want) // as without SNI
				}
			})
		})
	}
}

// What is wrong with DefaultHost is told at the first use, and to each client
// that would get it.
func TestWrongDefaultHost(t *testing.T) {
	for host, test := range map[string]struct {
		warning string
		want    error
	}{
		"not a host":        {"Manager.DefaultHost is not a host", certmgr.ErrNoServerName},
		"other.example.com": {"Manager.DefaultHost other.example.com is not on Manager.Hosts", certmgr.ErrHostNotAllowed},
		"192.0.2.77":        {"Manager.DefaultHost 192.0.2.77 is not on Manager.Hosts", certmgr.ErrHostNotAllowed},
	} {
		t.Run(host, func(t *testing.T) {
			addressWorld(t, func(t *testing.T, w *world) {
				w.m.DefaultHost = host
				w.wantNothing("", nil, test.want)
				w.wantHost("", connTo("192.0.2.1"), "192.0.2.1")
				warned := w.events.of(audit.ConfigurationWarning)
				if len(warned) != 1 || !strings.Contains(warned[0].Reason, test.warning) {
					t.Errorf("warnings: %v", warned)
				}
				if test.want != certmgr.ErrHostNotAllowed {
					return
				}
				w.m.Hosts.Add(host)
				w.wantHost("", nil, host)
			})
		})
	}
}

// Behind NAT, a local address stands for the one that clients connect to.
func TestPublicAddrs(t *testing.T) {
	addressWorld(t, func(t *testing.T, w *world) {
		w.m.PublicAddrs = map[netip.Addr]netip.Addr{
			netip.MustParseAddr("10.0.0.1"): netip.MustParseAddr("::ffff:192.0.2.1"),
			netip.MustParseAddr("fd00::1"):  netip.MustParseAddr("2001:db8::1"),
			netip.MustParseAddr("10.0.0.2"): {},
		}
		w.wantHost("", connTo("::ffff:10.0.0.1"), "192.0.2.1")
		clear(w.m.PublicAddrs) // it is copied
		w.wantHost("", connTo("10.0.0.1"), "192.0.2.1")
		w.wantHost("192.0.2.1", connTo("10.0.0.1"), "192.0.2.1")
		w.wantHost("", connTo("fd00::1"), "2001:db8::1")
		w.wantNothing("10.0.0.1", connTo("10.0.0.1"), certmgr.ErrBadServerName)
		w.wantNothing("", connTo("10.0.0.2"), certmgr.ErrNoServerName)
		w.wantNothing("", connTo("10.0.0.3"), certmgr.ErrNoServerName)
	})
}

// Without a DefaultHost, HostPolicy is asked about the address, as about any
// host, and in its canonical form; what it says of an address that the client
// did not name is no answer to the client.
func TestPolicyDecidesAboutTheLocalAddress(t *testing.T) {
	var asked []string
	policy := func(_ context.Context, host string) error {
		asked = append(asked, host)
		if host == "2606:4700::1" || host == "a.example.com" {
			return nil
		}
		return errors.New("not ours")
	}
	policyWorld(t, policy, func(t *testing.T, w *world) {
		w.wantHost("", connTo("2606:4700::1"), "2606:4700::1")
		w.wantHost("", connTo("2606:4700::1"), "2606:4700::1")
		if len(asked) != 1 || asked[0] != "2606:4700::1" {
			t.Errorf("HostPolicy was asked for %q", asked)
		}
		err := w.wantNothing("", connTo("8.8.8.8"), certmgr.ErrNoServerName)
		if !strings.Contains(err.Error(), "HostPolicy does not allow 8.8.8.8") || !strings.Contains(err.Error(), "not ours") {
			t.Errorf("%v", err)
		}
		if _, err := w.without("8.8.8.8", connTo("8.8.8.8")); err == nil || err.Error() != "not ours" {
			t.Errorf("with the address as SNI: %v, want HostPolicy's own error", err)
		}
		if n := w.m.Metrics().Handshakes[audit.ResultNoServerName]; n != 1 {
			t.Errorf("%d handshakes without a server name", n)
		}
	})
	policyWorld(t, policy, func(t *testing.T, w *world) {
		asked = nil
		w.m.DefaultHost = "a.example.com"
		w.wantHost("", connTo("8.8.8.8"), "a.example.com")
		if len(asked) != 1 || asked[0] != "a.example.com" {
			t.Errorf("with a DefaultHost, HostPolicy was asked for %q", asked)
		}
	})
	policyWorld(t, certmgr.AllowAnyHost, func(t *testing.T, w *world) {
		w.without("", connTo("8.8.8.8")) // the Cache is read once
		w.wantNothing("", connTo("8.8.8.8"), certmgr.ErrNoServerName)
		w.wantNothing("", connTo("127.0.0.1"), certmgr.ErrNoServerName)
	})
	policyWorld(t, certmgr.HostWhitelist("::1"), func(t *testing.T, w *world) {
		w.wantHost("", connTo("::1"), "::1")
		w.wantNothing("", connTo("127.0.0.1"), certmgr.ErrNoServerName)
	})
}

// Which host a session without SNI is for, a ticket does not say: so it is not
// resumed, and the host is asked for again.
func TestSessionOfAClientWithoutSNIIsNotResumed(t *testing.T) {
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.DefaultHost = "a.example.com"
				server, client := w.m.TLSConfig(), w.client("")
				client.InsecureSkipVerify, client.MaxVersion = true, version
				w.wantFull(server, client)
				time.Sleep(time.Second)
				w.wantFull(server, client)
				w.m.Hosts.Remove("a.example.com")
				if _, err := visit(t, server, client); err == nil {
					t.Error("the host that was removed is served")
				}
			})
		})
	}
}
