package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// errNoIPv6: the machine has no IPv6 address on loopback.
var errNoIPv6 = errors.New("no IPv6")

// site is a server with a Manager.
type site struct {
	manager *certmgr.Manager
	server  *http.Server
	addr    string // of the listener
	step    step

	mu   sync.Mutex
	last error // of GetCertificate
}

// startSite starts the server of a step, to which its names lead.
func startSite(ca *acmetest.Server, st step) (*site, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(st.listen, "0"))
	if err != nil {
		if st.listen == address6 {
			err = errNoIPv6
		}
		return nil, err
	}
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  new(cache.Memory), // a server that is to survive has a DirCache
		Audit:  audit.Log(slog.New(slog.DiscardHandler)),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
	st.set(m)
	s := &site{manager: m, addr: listener.Addr().String(), step: st}
	config := m.TLSConfig()
	config.GetCertificate = s.getCertificate
	s.server = &http.Server{
		TLSConfig: config,
		ErrorLog:  m.ErrorLog(nil), // without the errors that are printed anyway
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "hello") }),
	}
	go func() { _ = s.server.ServeTLS(listener, "", "") }()
	ca.Resolve("*", acmetest.Target{TLSAddr: s.addr})
	return s, nil
}

// getCertificate calls the Manager and keeps the error.
func (s *site) getCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, err := s.manager.GetCertificate(hello)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = err
	return cert, err
}

// refusal returns the error of the last handshake.
func (s *site) refusal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// visit connects without SNI, which Go's client does not send for an IP address.
// The certificate must be for what the client was told to expect: the address
// that it connects to, or the server's name.
func (s *site) visit(ca *acmetest.Server) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	expected := s.step.dial
	if s.step.want != "" {
		expected = s.step.want
	}
	dialer := &tls.Dialer{Config: &tls.Config{
		ServerName:         s.step.dial, // an address, so nothing is sent
		InsecureSkipVerify: true,        // VerifyConnection verifies it
		VerifyConnection: func(cs tls.ConnectionState) error {
			opts := x509.VerifyOptions{DNSName: expected, Roots: ca.Roots(), Intermediates: x509.NewCertPool()}
			for _, c := range cs.PeerCertificates[1:] {
				opts.Intermediates.AddCert(c)
			}
			_, err := cs.PeerCertificates[0].Verify(opts)
			return err
		},
	}}
	conn, err := dialer.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
	if _, err := io.ReadAll(conn); err != nil { // which is the end of the handshake on the server's side too
		return nil, err
	}
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// stop ends the server.
func (s *site) stop() {
	_ = s.server.Close()
	_ = s.manager.Close()
}
