package certmgr

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/netip"

	"github.com/nostall/nostall/internal/hosts"
)

// unnamed says which host clients get that send no host name: none at all, or
// an IP address in its place. It does not change.
type unnamed struct {
	defaultHost string // in normal form; empty if there is none
	invalid     error  // why Manager.DefaultHost is none
	public      map[netip.Addr]netip.Addr
}

func newUnnamed(m *Manager) unnamed {
	u := unnamed{public: make(map[netip.Addr]netip.Addr, len(m.PublicAddrs))}
	for local, public := range maps.All(m.PublicAddrs) {
		u.public[local.Unmap()] = public.Unmap()
	}
	if m.DefaultHost != "" {
		u.defaultHost, u.invalid = normalizeAny(m.DefaultHost, noHost)
	}
	return u
}

// address returns the address that a client connected to, as clients know it
// and in normal form, or "". A connection may have none, or be a dummy that
// panics.
func (u *unnamed) address(conn net.Conn) (host string) {
	if conn == nil {
		return ""
	}
	defer func() {
		if recover() != nil {
			host = ""
		}
	}()
	addr := addrOf(conn.LocalAddr()).Unmap()
	if public, ok := u.public[addr]; ok {
		addr = public
	}
	host, _ = hosts.Canonical(addr)
	return host
}

// addrOf returns the IP address of a net.Addr, or the zero Addr.
func addrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case nil:
		return netip.Addr{}
	case *net.TCPAddr:
		return a.AddrPort().Addr()
	case *net.UDPAddr: // of QUIC
		return a.AddrPort().Addr()
	}
	addrPort, _ := netip.ParseAddrPort(a.String())
	return addrPort.Addr()
}

// unnamedHost returns the host of a handshake whose client gave no host name:
// why says so. It does no work for what is not listed.
func (s *server) unnamedHost(hello *tls.ClientHelloInfo, why error) (host string, e *hostEntry, err error) {
	if isChallenge(hello) {
		return "", nil, why // the server name of a CA is never missing or an address
	}
	local := s.settings.unnamed.address(hello.Conn)
	if hello.ServerName == "" {
		host, err = s.settings.hostWithoutSNI(local, local != "" && s.hasOwn(local))
	} else {
		host, err = s.settings.hostOfAddressSNI(hello.ServerName, local, why)
	}
	if err != nil {
		return "", nil, err
	}
	if hello.ServerName == "" && !s.handshakes.unnamed.Load() {
		s.handshakes.unnamed.Store(true)
	}
	return host, s.memory.hosts.Get(host), nil
}

// hostWithoutSNI returns the host for a client that sent no SNI: the address
// that it connected to, if the operator has listed that or has a certificate of
// its own for it; else DefaultHost; and without one that address, about which
// HostPolicy will be asked. It is not asked about what nothing is ordered for,
// such as an address of a private network: otherwise each such client would cost
// a call that autocert does not make.
func (set *settings) hostWithoutSNI(local string, hasOwn bool) (string, error) {
	u := &set.unnamed
	switch {
	case hasOwn || local != "" && set.isNamed(local):
		return local, nil
	case u.invalid != nil:
		return "", &refusal{kind: ErrNoServerName, text: "the client sent no SNI, and Manager.DefaultHost is invalid", cause: u.invalid}
	case u.defaultHost != "":
		return u.defaultHost, nil
	case local == "":
		return "", errNoSNI
	case set.hostPolicy != nil && !isWhitelist(set.hostPolicy) && hosts.Uncertifiable(local) == "" && hosts.Private(local) == "":
		return local, nil
	}
	return "", &refusal{kind: ErrNoServerName, text: fmt.Sprintf("the client sent no SNI, and %s, which it connected to, is not listed; "+
		"list it, or set Manager.DefaultHost", local)}
}

// errNoSNI refuses a client that sent no SNI, on a connection that does not say
// which address it was made to.
var errNoSNI error = &refusal{kind: ErrNoServerName, text: noSNI}

// hostOfAddressSNI returns the host for a client that sent an IP address as SNI,
// which RFC 6066, section 3, forbids. It must be what it connected to, or what
// it would get without SNI. why is the error for anything else.
func (set *settings) hostOfAddressSNI(sni, local string, why error) (string, error) {
	addr, ok := hosts.ParseAddress(sni)
	if !ok {
		return "", why
	}
	host, ok := hosts.Canonical(addr)
	switch {
	case ok && (host == local || host == set.unnamed.defaultHost):
		return host, nil
	case local == "":
		return "", &refusal{kind: ErrBadServerName, host: addr.String(), text: "an IP address, on a connection that does not say which one it was made to"}
	default:
		return "", &refusal{kind: ErrBadServerName, host: addr.String(), text: fmt.Sprintf("an IP address, and not %s, "+
			"which the client connected to (behind NAT, set Manager.PublicAddrs)", local)}
	}
}

// refusedUnnamed returns the error for a client that sent no SNI, and was
// refused what it would have got. HostPolicy decided about an address that the
// client did not name.
func refusedUnnamed(set *settings, r result, host string, err error) (result, error) {
	if r != resNotAllowed && r != resBadServerName || host == set.unnamed.defaultHost {
		return r, err
	}
	return resNoServerName, brief(&refusal{kind: ErrNoServerName, text: "the client sent no SNI, and HostPolicy does not allow " + host + ", which it connected to", cause: err})
}

// warnOfDefaultHost says what is wrong with DefaultHost, or returns "". It may still be
// listed later.
func (set *settings) warnOfDefaultHost() string {
	switch u := &set.unnamed; {
	case u.invalid != nil:
		return fmt.Sprintf("Manager.DefaultHost is not a host: clients without SNI get no certificate by it (%v)", u.invalid)
	case u.defaultHost == "" || set.certificates != nil || set.trustOf(u.defaultHost) != notAllowed:
	case set.hostPolicy == nil || isWhitelist(set.hostPolicy) && !set.isNamed(u.defaultHost):
		return fmt.Sprintf("Manager.DefaultHost %s is not on Manager.Hosts: clients without SNI get no certificate by it until it is", u.defaultHost)
	}
	return ""
}
