package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/text"
)

// helloProto is the last protocol of a check's second ClientHello. A server
// whose NextProtos lacks "acme-tls/1" negotiates one of the others, but
// GetCertificate still sees helloProto, and a Manager answers as it answers a
// CA. It need not be random: the proof is the certificate, which nobody else
// has.
const helloProto = "nostall-preflight/1"

// IsHello reports whether a ClientHello's protocols are those of a check's
// second one, which a Manager answers as it answers a CA's.
func IsHello(protos []string) bool { return len(protos) == 3 && protos[2] == helloProto }

// askTLS makes a CA's tls-alpn-01 handshake (RFC 8737, section 3).
func askTLS(ctx context.Context, c connector, host string, p *probe) reply {
	state, err := handshakeAs(ctx, c, p.port, host, acme.ALPNProto)
	if err == nil && isLeaf(state, p.want) && state.NegotiatedProtocol == acme.ALPNProto {
		return reply{outcome: right}
	}
	if err != nil && (flight.IsTimeout(err) || !isSpoken(err)) {
		return connectFailed(err)
	}
	// This is not the expected response. Find out who answered.
	other, err2 := state, err
	if err != nil || !isLeaf(state, p.want) {
		other, err2 = handshakeAs(ctx, c, p.port, host, "h2", "http/1.1", helloProto)
	}
	switch {
	case err2 == nil && isLeaf(other, p.want):
		return reply{text: noALPNText, err: err, ours: true}
	case err == nil:
		return reply{text: "answers with " + describeLeaf(state) + notNegotiated(state)}
	case err2 == nil && len(other.PeerCertificates) > 0:
		return reply{err: err, text: tlsFailure(err) + ", and without acme-tls/1 " + describeLeaf(other)}
	}
	return reply{err: err, text: tlsFailure(err)}
}

const noALPNText = `is answered by this Manager, but tls.Config.NextProtos of that server lacks "acme-tls/1": ` +
	`add it (Manager.TLSConfig has it), or serve port 80 by Manager.HTTPHandler`

// errSpoken marks the error of a handshake that a server took part in.
type errSpoken struct{ error }

func (e errSpoken) Unwrap() error { return e.error }

func isSpoken(err error) bool {
	_, ok := errors.AsType[errSpoken](err)
	return ok
}

// handshakeAs makes one handshake on a new connection. It verifies nothing:
// there may be no certificate yet, and nothing is sent or trusted. The SNI of an
// address is its reverse name (RFC 8738, section 6).
func handshakeAs(ctx context.Context, c connector, port uint16, host string, protos ...string) (tls.ConnectionState, error) {
	conn, end, err := c.connect(ctx, port)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer end()
	client := tls.Client(conn, &tls.Config{ServerName: hosts.Reverse(host), NextProtos: protos, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil { // not HandshakeContext, whose goroutine would call conn too
		return tls.ConnectionState{}, errSpoken{err}
	}
	return client.ConnectionState(), nil
}

// isLeaf reports whether the peer proved to have the certificate der.
func isLeaf(state tls.ConnectionState, der []byte) bool {
	return len(state.PeerCertificates) > 0 && bytes.Equal(state.PeerCertificates[0].Raw, der)
}

func notNegotiated(state tls.ConnectionState) string {
	if state.NegotiatedProtocol == acme.ALPNProto {
		return " (acme-tls/1 of another ACME client)"
	}
	return " and no acme-tls/1"
}

// describeLeaf names the hosts of the peer's certificate. The peer chooses this
// text: it is escaped and bounded.
func describeLeaf(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return "no certificate"
	}
	names := namesOf(state.PeerCertificates[0])
	if len(names) == 0 {
		return "a certificate without names"
	}
	more := ""
	if n := len(names) - maxLeafNames; n > 0 {
		names, more = names[:maxLeafNames], fmt.Sprintf(" and %d more names", n)
	}
	for i, name := range names {
		names[i] = `"` + text.OneLine(name, maxNameText) + `"`
	}
	return "a certificate for " + strings.Join(names, ", ") + more
}

const (
	maxLeafNames = 3
	maxNameText  = 48
)

func namesOf(leaf *x509.Certificate) []string {
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 && leaf.Subject.CommonName != "" {
		names = append(names, leaf.Subject.CommonName)
	}
	return names
}

// tlsFailure describes the failure of a handshake that the server took part in.
func tlsFailure(err error) string {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "does not speak TLS"
	}
	if isClosed(err) {
		return "closes the connection in the TLS handshake"
	}
	text := flight.Brief(err)
	if alert, ok := strings.CutPrefix(text, "tls: "); ok {
		return fmt.Sprintf("TLS fails with %q", alert)
	}
	return "TLS fails with " + text
}
