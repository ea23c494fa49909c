package acmetest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
)

// Visitor returns a new client for the server under test, as a visitor would
// have it: every name leads where Resolve says, on the ports 80 and 443, and
// the roots of this CA are trusted, also those of alternate chains. So it fails
// if the certificate is missing, expired or for another name, and with a
// [Target] in memory the error says why the server refused the handshake.
//
// Each request has a connection and a handshake of its own, over HTTP/1.1. The
// client's Transport is an [http.Transport], whose TLSClientConfig may be
// changed before the first request. Connections in memory end with Close.
func (s *Server) Visitor() *http.Client {
	s.mustBeUsable()
	s.mustBeInside()
	roots := s.Roots()
	for _, alternate := range s.ca.alternates {
		roots.AddCert(alternate.root)
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			target, _, err := s.visited(addr, "http", "80")
			if err != nil || target.HTTPHandler == nil {
				return dialVisited(ctx, target.HTTPAddr, err)
			}
			return s.serveVisit(nil, target.HTTPHandler, nil)
		},
	}
	transport.DialTLSContext = func(ctx context.Context, _, addr string) (net.Conn, error) {
		target, host, err := s.visited(addr, "https", "443")
		if err != nil {
			return nil, err
		}
		return s.visitTLS(ctx, target, host, transport.TLSClientConfig)
	}
	return &http.Client{Transport: transport}
}

// visited returns where the address of a URL leads, and its host.
func (s *Server) visited(addr, scheme, port string) (Target, string, error) {
	s.mustBeInside()
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return Target{}, "", err
	}
	if p != port {
		return Target{}, "", fmt.Errorf("acmetest: %s leads nowhere: a Target has port %s for %s", addr, port, scheme)
	}
	target, problem := s.names.lookup(host)
	if problem != nil {
		return Target{}, "", fmt.Errorf("acmetest: no such host %q: call Resolve", host)
	}
	return target, host, nil
}

// dialVisited connects to the address of a target, unless there is an error.
func dialVisited(ctx context.Context, addr string, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	conn, err := dialTarget(ctx, addr)
	if err != nil && addr == "" {
		return nil, fmt.Errorf("acmetest: its Target has no server for this scheme: %w", err)
	}
	return conn, err
}

// visitTLS makes a TLS connection to a target.
func (s *Server) visitTLS(ctx context.Context, target Target, host string, config *tls.Config) (net.Conn, error) {
	var conn net.Conn
	var err error
	refused := make(chan error, 1) // why the server in memory ended the handshake
	if target.TLSConfig == nil {
		conn, err = dialVisited(ctx, target.TLSAddr, nil)
	} else {
		conn, err = s.serveVisit(target.TLSConfig, target.HTTPSHandler, refused)
	}
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName = host
	}
	client := tls.Client(conn, config)
	if err := client.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // not the TLS connection, which would wait for the other side
		if target.TLSConfig != nil {
			// The client's own reason, such as a wrong name, is an alert there.
			if reason := <-refused; !isRemoteAlert(reason) {
				err = fmt.Errorf("%w; the server under test says: %w", err, reason)
			}
		}
		return nil, err
	}
	return client, nil
}

// isRemoteAlert reports whether the other side ended a handshake.
func isRemoteAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return err == nil || ok && op.Op == "remote error" || errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe)
}

// serveVisit serves one connection in memory and returns the client's side of
// it. With a config it begins with a TLS handshake, whose result goes to
// handshake.
func (s *Server) serveVisit(config *tls.Config, handler http.Handler, handshake chan<- error) (net.Conn, error) {
	client, server := net.Pipe()
	started := s.tasks.Go(func() {
		stop := context.AfterFunc(s.ctx, func() { _ = server.Close() })
		defer stop()
		conn := server
		if config != nil {
			secure := tls.Server(server, config)
			err := secure.HandshakeContext(s.ctx)
			if handshake <- err; err != nil {
				_ = server.Close()
				return
			}
			conn = secure
		}
		serveConn(s.ctx, conn, handler)
	})
	if !started {
		return nil, fmt.Errorf("acmetest: the server is closed: %w", http.ErrServerClosed)
	}
	return client, nil
}

// serveConn serves HTTP/1.1 on one connection and returns when that is closed.
func serveConn(ctx context.Context, conn net.Conn, handler http.Handler) {
	if handler == nil {
		handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	}
	ln := &oneConn{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	ln.conn <- conn
	server := &http.Server{
		Handler:     handler,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    log.New(io.Discard, "", 0),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				_ = ln.Close()
			}
		},
	}
	_ = server.Serve(ln)
}

// oneConn is a listener that accepts one connection.
type oneConn struct {
	conn   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conn:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
