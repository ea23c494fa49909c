package challenge

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/hosts"
)

// ParseTLSALPN01 returns the certificate in an entry of the Cache, which another
// machine wrote as its answer to a tls-alpn-01 challenge for host. Anything else
// is an error: it would fail the challenge, and a certificate that is in service
// must not be served under the protocol of challenges. That of challenges is for
// host alone, and has the critical extension acmeIdentifier (RFC 8737, section
// 3).
func ParseTLSALPN01(host string, data []byte) (*tls.Certificate, error) {
	key, chain, err := bundle.Decode(data)
	if err != nil {
		return nil, err
	}
	if len(chain) != 1 {
		return nil, fmt.Errorf("it has %d certificates, and an answer has one", len(chain))
	}
	leaf, err := bundle.CheckKey(key, chain[0])
	switch {
	case err != nil:
		return nil, err
	case !isFor(leaf, host):
		return nil, errors.New("its certificate is for another name")
	}
	for _, ext := range leaf.Extensions {
		if ext.Critical && ext.Id.Equal([]int{1, 3, 6, 1, 5, 5, 7, 1, 31}) { // id-pe-acmeIdentifier
			return &tls.Certificate{Certificate: chain, PrivateKey: key}, nil
		}
	}
	return nil, errors.New("its certificate lacks the critical extension acmeIdentifier")
}

// isFor reports whether a certificate is for a host name or an address (RFC
// 8738, section 6), and for nothing else.
func isFor(leaf *x509.Certificate, host string) bool {
	if !hosts.IsAddress(host) {
		return slices.Equal(leaf.DNSNames, []string{host}) && len(leaf.IPAddresses) == 0
	}
	if len(leaf.DNSNames) > 0 || len(leaf.IPAddresses) != 1 {
		return false
	}
	addr, _ := netip.AddrFromSlice(leaf.IPAddresses[0])
	return addr.String() == host
}
