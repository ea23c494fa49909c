package conformance

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Sites answers the validations of a CA that connects to real sockets. All
// names lead to the same two sockets: serve HTTP with Sites, and TLS with the
// configuration of TLSConfig. The zero value knows no name.
type Sites struct {
	mu    sync.Mutex
	sites map[string]site // by name
}

type site struct {
	handler http.Handler
	config  *tls.Config
}

var _ http.Handler = (*Sites)(nil)

// Serve implements CA.Serve.
func (s *Sites) Serve(name string, h http.Handler, config *tls.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sites == nil {
		s.sites = make(map[string]site)
	}
	s.sites[strings.ToLower(name)] = site{h, config}
}

func (s *Sites) find(name string) site {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sites[strings.ToLower(name)]
}

// ServeHTTP forwards a request by its host.
func (s *Sites) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if h := s.find(strings.Trim(host, "[]")).handler; h != nil {
		h.ServeHTTP(w, r)
		return
	}
	http.NotFound(w, r)
}

// TLSConfig returns a configuration that selects by the name in the
// ClientHello.
func (s *Sites) TLSConfig() *tls.Config {
	return &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name := hello.ServerName
		if address, ok := forward(name); ok {
			name = address
		}
		if config := s.find(name).config; config != nil {
			return config, nil
		}
		return nil, fmt.Errorf("no site %q", name)
	}}
}

// forward returns the IPv4 address of a name in reverse DNS, which stands for
// it in a ClientHello (RFC 8738, section 6).
func forward(name string) (address string, ok bool) {
	reverse, ok := strings.CutSuffix(strings.TrimSuffix(name, "."), ".in-addr.arpa")
	if !ok {
		return "", false
	}
	octets := strings.Split(reverse, ".")
	slices.Reverse(octets)
	addr, err := netip.ParseAddr(strings.Join(octets, "."))
	return addr.String(), err == nil
}
