package sim

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"

	"github.com/nostall/nostall/certmgr"
)

// addressProfile is the only profile by which the CA certifies addresses.
const addressProfile = "shortlived"

// isAddress reports whether a host is an IP address.
func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// nameOf returns the only name of a certificate.
func nameOf(leaf *x509.Certificate) string {
	if len(leaf.DNSNames) == 0 {
		return leaf.IPAddresses[0].String()
	}
	return leaf.DNSNames[0]
}

// addressSettings sets the profile of the hosts that are addresses.
func addressSettings(hosts []*host) map[string]certmgr.HostSettings {
	settings := make(map[string]certmgr.HostSettings)
	for _, h := range hosts {
		if isAddress(h.name) {
			settings[h.name] = certmgr.HostSettings{Profile: addressProfile}
		}
	}
	return settings
}

// profileOf returns the profile that orders for a host ask for. w.mu is held.
func (w *world) profileOf(name string) string {
	if isAddress(name) {
		return addressProfile
	}
	return w.profile
}

// hello returns the ClientHello of a visitor. One of an address sends no SNI, or
// the address, by turns. It is for the main goroutine.
func (h *host) hello() *tls.ClientHelloInfo {
	if !isAddress(h.name) {
		return &tls.ClientHelloInfo{ServerName: h.name}
	}
	hello := &tls.ClientHelloInfo{Conn: connTo{addr: h.name}}
	if h.visits++; h.visits%2 == 0 {
		hello.ServerName = h.name
	}
	return hello
}

// connTo is a connection that was made to an address.
type connTo struct {
	net.Conn
	addr string
}

func (c connTo) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.ParseIP(c.addr), Port: 443} }
func (c connTo) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv6loopback, Port: 4711} }
