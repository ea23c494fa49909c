package acmetest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
)

// front is the side of a server that clients reach. Stop and Restart take it
// away and bring it back; the rest of the server does not notice.
type front struct {
	// Set at the start.
	cert    *tls.Certificate // of the listener; nil in memory
	addr    string           // of the listener
	handler http.Handler

	mu        sync.Mutex
	ctx       context.Context    // of requests; nil before the start, ended while it is stopped
	cancel    context.CancelFunc // of ctx
	closed    bool
	listeners []*listener // only the last one can be open
}

// errRefused is what a client gets in memory while the server is stopped.
var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

// Stop makes the CA unreachable, like a CA whose process has ended: connections
// are closed, requests in flight get no reply, and new connections are refused.
// Validations go on. Restart ends that. Stop does not wait for the handling of
// requests, so the function given to Edit may call it. It has no effect on a
// stopped or closed server, and panics before the start.
func (s *Server) Stop() {
	s.mustBeUsable()
	s.mustBeInside()
	f := &s.front
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx == nil {
		panic("acmetest: the server was not started")
	}
	f.stop()
	s.client.CloseIdleConnections() // or a client would first try one of these
}

// Restart makes a stopped CA reachable again, at the same URL and with the same
// certificate. It still knows its accounts, orders, certificates and nonces.
// Restart has no effect on a running server. It panics if the server was not
// started or is closed, or if its port is no longer free: while the server is
// stopped, another process may take a port that Start chose.
func (s *Server) Restart() {
	s.mustBeUsable()
	s.mustBeInside()
	f := &s.front
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.ctx == nil:
		panic("acmetest: the server was not started")
	case f.closed:
		panic("acmetest: the server was closed before")
	case f.ctx.Err() == nil:
		return
	}
	var ln net.Listener
	if f.cert != nil {
		var err error
		if ln, err = net.Listen("tcp", f.addr); err != nil {
			panic("acmetest: cannot restart: " + err.Error())
		}
	}
	f.start(s.ctx, ln)
}

// listen returns the listener for Start, and the host and port of its URL.
func (s *Server) listen() (net.Listener, string) {
	ln := s.Listener
	if ln == nil {
		ln = listenLoopback()
	}
	addr, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		panic(fmt.Sprintf("acmetest: Listener listens on %v, which is not a TCP address", ln.Addr()))
	}
	host := s.Hostname
	if host == "" {
		host = addr.IP.String()
		if addr.IP.IsUnspecified() {
			host = "127.0.0.1"
		}
	}
	s.front.cert = s.ca.listenerCertificate(host)
	s.front.addr = ln.Addr().String()
	s.front.handler = http.HandlerFunc(s.serve)
	return ln, net.JoinHostPort(host, fmt.Sprint(addr.Port))
}

// open makes the server reachable through a listener, or through
// frontTransport if ln is nil.
func (f *front) open(ctx context.Context, ln net.Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.start(ctx, ln)
}

// start begins to serve, until ctx ends or the front is stopped; ln is nil in
// memory. f.mu is held.
func (f *front) start(ctx context.Context, ln net.Listener) {
	f.ctx, f.cancel = context.WithCancel(ctx)
	if ln != nil {
		f.listeners = append(f.listeners, newListener(f.ctx, ln, f.cert, f.handler))
	}
}

// stop is the counterpart of start. f.mu is held.
func (f *front) stop() {
	f.cancel()
	if n := len(f.listeners); n > 0 {
		f.listeners[n-1].close()
	}
}

// close stops for good, and waits for all connections.
func (f *front) close() {
	f.mu.Lock()
	f.closed = true
	if f.ctx != nil {
		f.stop()
	}
	listeners := f.listeners
	f.mu.Unlock()
	for _, l := range listeners {
		l.wait()
	}
}

// serving returns the context of requests, or an error if the front is stopped.
func (f *front) serving() (context.Context, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil && !f.closed {
		return nil, errRefused
	}
	return f.ctx, nil
}

// frontTransport is a memoryTransport that reaches a front.
type frontTransport struct {
	front  *front
	check  func()          // panics in the wrong bubble
	memory memoryTransport // without its ctx
}

var _ http.RoundTripper = (*frontTransport)(nil)

// RoundTrip calls the server's handler, unless the server is stopped.
func (t *frontTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.check()
	ctx, err := t.front.serving()
	if err != nil {
		closeBody(req)
		return nil, err
	}
	memory := t.memory
	memory.ctx = ctx
	resp, err := memory.RoundTrip(req)
	if err == nil && ctx.Err() != nil {
		// Stopped, by whoever held back the complete reply.
		_ = resp.Body.Close()
		return nil, errDropped
	}
	return resp, err
}
