package acmetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// maxCSR bounds a CSR in bytes. One for 100 of the longest names has less than half of it.
const maxCSR = 64 << 10

// checkCSR reads a CSR and checks that it fits an order (RFC 8555, section 7.4).
func (s *Server) checkCSR(encoded string, hosts []string) (*x509.CertificateRequest, *Problem) {
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
	// First the key: to check a signature with an RSA key of any size can take minutes.
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

// isAccountKey reports whether any account uses the key (RFC 8555, section 11.1).
func (s *Server) isAccountKey(pub crypto.PublicKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.state.accounts, func(a *account) bool { return a.key.equal(pub) })
}

// checkCSRNames checks that the CSR asks for exactly the order's names.
func checkCSRNames(request *x509.CertificateRequest, hosts []string) error {
	if len(request.EmailAddresses)+len(request.URIs) > 0 {
		return fmt.Errorf("the CSR has names that are neither DNS names nor IP addresses")
	}
	var asked []string
	for _, name := range request.DNSNames {
		if isIP(name) {
			return fmt.Errorf("the CSR has the IP address %s as a DNS name", name) // RFC 8738, section 3
		}
		asked = append(asked, strings.ToLower(name))
	}
	for _, ip := range request.IPAddresses {
		asked = append(asked, ip.String())
	}
	if cn := request.Subject.CommonName; cn != "" {
		asked = append(asked, strings.ToLower(cn))
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	if !slices.Equal(asked, hosts) {
		return fmt.Errorf("the CSR is for %q, but the order is for %q", asked, hosts)
	}
	return nil
}
