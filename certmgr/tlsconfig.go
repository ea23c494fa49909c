package certmgr

import (
	"crypto/tls"

	"golang.org/x/crypto/acme"
)

// TLSConfig returns a server configuration for HTTP/2, HTTP/1.1 and
// tls-alpn-01, whose certificates come from GetCertificate. If this process
// awaits a CA's tls-alpn-01 handshake, its GetConfigForClient returns a
// configuration for that alone: settings that are added, such as ClientAuth,
// do not keep the CA out.
//
// Its UnwrapSession resumes a TLS session only if MayResume allows it, and none
// that is older than the last revocation of a certificate of its host. Any
// other session leads to a full handshake. Tickets are encrypted with the keys
// of the returned configuration, also by its clones, such as those that
// net/http makes: call SetSessionTicketKeys on the returned one, at any time.
// On a clone it has no effect, unless the clone's WrapSession and UnwrapSession
// are replaced too. Each call of TLSConfig has keys of its own.
func (m *Manager) TLSConfig() *tls.Config {
	config := &tls.Config{
		GetCertificate:     m.GetCertificate,
		GetConfigForClient: m.challengeConfig,
		NextProtos:         []string{"h2", "http/1.1", acme.ALPNProto},
	}
	tickets := &sessions{config: config, server: func() *server {
		m.init()
		return m.engine.server
	}}
	config.WrapSession, config.UnwrapSession = tickets.wrap, tickets.unwrap
	return config
}

// challengeConfig returns the configuration for a tls-alpn-01 handshake that is
// awaited here, and nil for any other. RFC 8737, section 3, has no client
// certificates.
func (m *Manager) challengeConfig(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if !isChallenge(hello) {
		return nil, nil
	}
	m.init()
	host, err := normalizeHost(hello.ServerName, noSNI)
	s := m.engine.server
	if err != nil || !s.answers.Awaits(s.challengedHost(host)) {
		return nil, nil // GetCertificate decides
	}
	return &tls.Config{
		GetCertificate:         m.GetCertificate,
		NextProtos:             []string{acme.ALPNProto},
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true, // a stranger can send this hello too
	}, nil
}
