package probe

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"testing"
)

// What a foreign server shows is told in few words, escaped.
func TestForeignCertificateIsDescribed(t *testing.T) {
	for _, tt := range []struct {
		leaf *x509.Certificate
		want string
	}{
		{nil, "no certificate"},
		{&x509.Certificate{}, "a certificate without names"},
		{&x509.Certificate{Subject: pkix.Name{CommonName: "router\n"}}, `a certificate for "router\n"`},
		{&x509.Certificate{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}, `a certificate for "192.0.2.1"`},
		{&x509.Certificate{DNSNames: []string{"a", "b", "c", "d", "e"}}, `a certificate for "a", "b", "c" and 2 more names`},
	} {
		var state tls.ConnectionState
		if tt.leaf != nil {
			state.PeerCertificates = []*x509.Certificate{tt.leaf}
		}
		if got := describeLeaf(state); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

func TestFailedHandshakeIsDescribed(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, "does not speak TLS"},
		{errSpoken{io.EOF}, "closes the connection in the TLS handshake"},
		{errSpoken{tls.AlertError(40)}, `TLS fails with "handshake failure"`},
		{errSpoken{errors.New("x509: too many names")}, "TLS fails with x509: too many names"},
	} {
		if got := tlsFailure(tt.err); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}
