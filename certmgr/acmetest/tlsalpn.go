package acmetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// protoTLSALPN is the ALPN protocol of a tls-alpn-01 validation.
const protoTLSALPN = "acme-tls/1"

// validateTLSALPN01 makes a TLS handshake with the host and checks the
// certificate (RFC 8737, section 3).
func (s *Server) validateTLSALPN01(ctx context.Context, host, keyAuthorization string) *Problem {
	target, problem := s.names.lookup(host)
	if problem != nil {
		return problem
	}
	what := "tls-alpn-01 for " + host + " at " + target.tlsName()
	conn, err := s.dialTLS(ctx, target)
	if err != nil {
		return connectionProblem(err, what)
	}
	defer func() { _ = conn.Close() }()
	// The raw connection is closed, not the TLS one: that would block until its
	// alert is read.
	client := tls.Client(conn, &tls.Config{
		ServerName:         validationServerName(host),
		NextProtos:         []string{protoTLSALPN},
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // the certificate is self-signed; checkALPNCertificate checks it
	})
	if err := client.HandshakeContext(ctx); err != nil {
		return handshakeProblem(err, what)
	}
	state := client.ConnectionState()
	if state.NegotiatedProtocol != protoTLSALPN {
		return problemf("unauthorized", "%s: the server negotiated the protocol %q instead of %q",
			what, state.NegotiatedProtocol, protoTLSALPN)
	}
	if err := checkALPNCertificate(state.PeerCertificates, host, keyAuthorization); err != nil {
		return problemf("unauthorized", "%s: wrong validation certificate: %v", what, err)
	}
	return nil
}

// validationServerName returns the SNI for a name. An IP address is represented
// by its reverse DNS name, as SNI cannot carry an address (RFC 8738, section
// 6).
func validationServerName(host string) string {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	const hexDigits = "0123456789abcdef"
	var b strings.Builder
	for _, octet := range slices.Backward(addr.AsSlice()) {
		if addr.Is4() {
			fmt.Fprintf(&b, "%d.", octet)
		} else {
			fmt.Fprintf(&b, "%c.%c.", hexDigits[octet&15], hexDigits[octet>>4])
		}
	}
	if addr.Is4() {
		return b.String() + "in-addr.arpa"
	}
	return b.String() + "ip6.arpa"
}

// dialTLS connects to the TLS server of a target, in memory if it has a
// TLSConfig.
func (s *Server) dialTLS(ctx context.Context, target Target) (net.Conn, error) {
	if target.TLSConfig == nil {
		return dialTarget(ctx, target.TLSAddr)
	}
	client, server := net.Pipe()
	started := s.tasks.Go(func() {
		defer func() { _ = server.Close() }()
		// The other side sees the result.
		_ = tls.Server(server, target.TLSConfig).HandshakeContext(ctx)
	})
	if !started {
		return nil, context.Canceled
	}
	return client, nil
}

func (t Target) tlsName() string {
	switch {
	case t.TLSConfig != nil:
		return "the TLSConfig of its Target"
	case t.TLSAddr != "":
		return t.TLSAddr
	default:
		return "port 443 (its Target has no TLS server)"
	}
}

// handshakeProblem distinguishes a server that refused from a missing one.
func handshakeProblem(err error, what string) *Problem {
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.EOF), errors.Is(err, io.ErrClosedPipe):
		return connectionProblem(err, what)
	case errors.As(err, &record):
		return problemf("tls", "%s: the server does not speak TLS: %v", what, err)
	case strings.Contains(err.Error(), "tls: "):
		return problemf("tls", "%s: the handshake failed: %v", what, err)
	default:
		return connectionProblem(err, what)
	}
}

// checkALPNCertificate applies the rules of RFC 8737, section 3.
func checkALPNCertificate(chain []*x509.Certificate, host, keyAuthorization string) error {
	if len(chain) == 0 {
		return errors.New("there is none")
	}
	leaf := chain[0]
	if !bytes.Equal(leaf.RawIssuer, leaf.RawSubject) ||
		leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) != nil {
		return errors.New("it is not self-signed, so it is not a validation certificate (was the server's ordinary certificate sent?)")
	}
	if err := checkOnlyName(leaf, host); err != nil {
		return err
	}
	want := sha256.Sum256([]byte(keyAuthorization))
	return checkACMEIdentifier(leaf, want[:])
}

// checkOnlyName checks that the certificate has exactly one name, of any kind.
func checkOnlyName(leaf *x509.Certificate, host string) error {
	extension, err := onlyExtension(leaf, asn1.ObjectIdentifier{2, 5, 29, 17}, "subjectAltName")
	if err != nil {
		return err
	}
	var general []asn1.RawValue
	if rest, err := asn1.Unmarshal(extension.Value, &general); err != nil || len(rest) > 0 {
		return errors.New("its subjectAltName cannot be read")
	}
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		addr, _ := netip.AddrFromSlice(ip) // an IPv4 address in 16 bytes is none of IPv4
		names = append(names, addr.String())
	}
	if len(general) != 1 || len(names) != 1 || !strings.EqualFold(names[0], host) || isIP(host) != (len(leaf.IPAddresses) == 1) {
		return errors.New("it is for " + strings.Join(names, ", ") + " and not for exactly " + host)
	}
	return nil
}

// checkACMEIdentifier checks the acmeIdentifier extension.
func checkACMEIdentifier(leaf *x509.Certificate, want []byte) error {
	extension, err := onlyExtension(leaf, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}, "acmeIdentifier")
	if err != nil {
		return err
	}
	if !extension.Critical {
		return errors.New("its acmeIdentifier is not critical")
	}
	var got []byte
	if rest, err := asn1.Unmarshal(extension.Value, &got); err != nil || len(rest) > 0 || len(got) != len(want) {
		return errors.New("its acmeIdentifier is not an octet string of 32 bytes")
	}
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return errors.New("its acmeIdentifier belongs to another token or account key")
	}
	return nil
}

// onlyExtension returns the extension with this id. There must be exactly one.
func onlyExtension(leaf *x509.Certificate, id asn1.ObjectIdentifier, name string) (pkix.Extension, error) {
	var found []pkix.Extension
	for _, extension := range leaf.Extensions {
		if extension.Id.Equal(id) {
			found = append(found, extension)
		}
	}
	if len(found) != 1 {
		return pkix.Extension{}, errors.New("it has no (or more than one) extension " + name)
	}
	return found[0], nil
}
