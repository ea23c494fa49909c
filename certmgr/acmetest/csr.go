package acmetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxCSR is the largest CSR in bytes. One with 100 of the longest names has
// less than half of that.
const maxCSR = 64 << 10

// checkCSR parses a CSR and checks that it fits an order (RFC 8555, section
// 7.4).
func (s *Server) checkCSR(encoded string, hosts []string) (*x509.CertificateRequest, *Problem) {
	if encoded == "" {
		return nil, problemf("malformed", "the request has no csr")
	}
	der, err := decode64(encoded)
	if err != nil || len(der) == 0 {
		return nil, problemf("malformed", "the csr is not base64url without padding")
	}
	if len(der) > maxCSR {
		return nil, problemf("badCSR", "the CSR has %d bytes, more than %d", len(der), maxCSR)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, problemf("badCSR", "the CSR cannot be read (it must be DER, not PEM): %v", err)
	}
	// Check the key first: verifying a signature with a huge RSA key can take
	// minutes.
	if err := checkCSRKey(request.PublicKey); err != nil {
		return nil, problemf("badCSR", "the CSR's key cannot be used: %v", err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, problemf("badCSR", "the CSR's signature is wrong: %v", err)
	}
	if s.isAccountKey(request.PublicKey) {
		return nil, problemf("badCSR", "the CSR's key is the key of an account")
	}
	if err := checkCSRNames(request, hosts); err != nil {
		return nil, problemf("badCSR", "%v", err)
	}
	return request, nil
}

func checkCSRKey(pub crypto.PublicKey) error {
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return fmt.Errorf("the curve %s is not supported", key.Curve.Params().Name)
		}
		return nil
	case *rsa.PublicKey:
		return checkRSA(key)
	default:
		return fmt.Errorf("keys of type %T are not supported", pub)
	}
}

// isAccountKey reports whether any account uses the key (RFC 8555, section
// 11.1).
func (s *Server) isAccountKey(pub crypto.PublicKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.accountByKey[thumbprintOf(pub)] != nil
}

// checkCSRNames checks that the CSR asks for exactly the order's names.
func checkCSRNames(request *x509.CertificateRequest, hosts []string) error {
	if err := checkSANs(request); err != nil {
		return err
	}
	var asked []string
	for _, name := range request.DNSNames {
		if isIP(name) {
			return fmt.Errorf("the CSR has the IP address %s as a DNS name", name) // RFC 8738, section 3
		}
		asked = append(asked, strings.ToLower(name))
	}
	for _, ip := range request.IPAddresses {
		addr, _ := netip.AddrFromSlice(ip) // a 16-byte IPv4 address does not count as IPv4
		asked = append(asked, addr.String())
	}
	if cn := strings.ToLower(request.Subject.CommonName); cn != "" {
		if isIP(cn) && !slices.Contains(asked, cn) {
			return fmt.Errorf("the CSR has the IP address %s as its common name only", cn) // only DNS names may be in the common name alone
		}
		asked = append(asked, cn)
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	if !slices.Equal(asked, hosts) {
		return fmt.Errorf("the CSR is for %q, but the order is for %q", asked, hosts)
	}
	return nil
}

// checkSANs refuses names other than DNS names and IP addresses, including
// kinds that crypto/x509 skips.
func checkSANs(request *x509.CertificateRequest) error {
	for _, extension := range request.Extensions {
		if !extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &names); err != nil || len(rest) > 0 {
			return errors.New("the CSR's subjectAltName cannot be read")
		}
		for _, name := range names {
			if name.Tag != 2 && name.Tag != 7 { // RFC 5280, section 4.2.1.6
				return errors.New("the CSR has names that are neither DNS names nor IP addresses")
			}
		}
	}
	return nil
}
