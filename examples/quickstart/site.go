package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// site is an HTTPS server with certmgr, and how to visit it.
type site struct {
	ca      *acmetest.Server
	manager *certmgr.Manager
	server  *http.Server
	addr    string
	refused chan error // why GetCertificate refused the last handshake: clients see an alert and no more
}

func startSite(ca *acmetest.Server, m *certmgr.Manager) (*site, error) {
	s := &site{ca: ca, manager: m, refused: make(chan error, 1)}
	config := m.TLSConfig()
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := m.GetCertificate(hello)
		if err != nil {
			s.refused <- err
		}
		return cert, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.addr = ln.Addr().String()
	s.server = &http.Server{
		TLSConfig: config,
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "Hello from %s", r.Host) }),
		ErrorLog:  log.New(io.Discard, "", 0), // it would repeat what refused tells
	}
	go s.server.ServeTLS(ln, "", "")
	ca.Resolve(goodHost, acmetest.Target{TLSAddr: s.addr}) // DNS: this is where the CA finds the host
	return s, nil
}

func (s *site) stop() {
	s.server.Close()
	if err := s.manager.Close(); err != nil {
		log.Print(err)
	}
}

// answer is what a visitor got.
type answer struct {
	leaf *x509.Certificate
	took time.Duration
}

// visit makes one HTTPS request on a new connection, with every check that a browser makes. The error is the server's
// if the server refused the handshake.
func (s *site) visit(ctx context.Context, host string) (answer, error) {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.ca.Roots()},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.addr)
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		return answer{}, err
	}
	start := time.Now()
	resp, err := transport.RoundTrip(req)
	took := time.Since(start)
	if err != nil {
		select {
		case refused := <-s.refused:
			return answer{took: took}, refused
		default:
			return answer{took: took}, err
		}
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return answer{resp.TLS.PeerCertificates[0], took}, err
}
