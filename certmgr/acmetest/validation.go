package acmetest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// The challenge types.
const (
	tlsALPN01 = "tls-alpn-01" // RFC 8737
	http01    = "http-01"     // RFC 8555, section 8.3
	dns01     = "dns-01"      // RFC 8555, section 8.4
)

// validationTimeout is the time-out of one validation, as at Let's Encrypt.
const validationTimeout = 10 * time.Second

// validate performs one validation, once, and records the result. It runs in
// its own goroutine. The faults hold it up first.
func (s *Server) validate(c *challenge, host, keyAuthorization string, slow []*hostFault) {
	s.slowDown(slow)
	ctx, cancel := context.WithTimeout(s.ctx, validationTimeout)
	defer cancel()
	problem := s.challengeProblem(ctx, c.typ, host, c.token, keyAuthorization)
	if s.ctx.Err() != nil {
		return // the server is closed
	}
	now := s.now()
	defer s.changes.notify()
	s.mu.Lock()
	defer s.mu.Unlock()
	a := c.authorization
	s.countValidation(a, problem != nil)
	if problem != nil {
		filled := problem.filled()
		c.status, c.problem = invalid, &filled
	} else {
		c.status, c.validated = valid, now
	}
	if a.current(now) != pending {
		return // deactivated meanwhile
	}
	a.status = c.status
	if a.status == valid {
		a.expires = now.Add(s.authorizationLifetimeOf(a.profile))
	}
}

// challengeProblem returns why a validation fails, or nil. A challenge's type
// and token never change, so no lock is needed.
func (s *Server) challengeProblem(ctx context.Context, typ, host, token, keyAuthorization string) *Problem {
	for _, f := range s.hosts.takeType(faultValidation, typ, host) {
		problem := f.problem
		return &problem
	}
	if problem := s.primaryProblem(ctx, typ, host, token, keyAuthorization); problem != nil {
		return problem
	}
	return s.secondaryProblem(typ, host)
}

// primaryProblem returns why the CA itself cannot validate a challenge, or nil.
func (s *Server) primaryProblem(ctx context.Context, typ, host, token, keyAuthorization string) *Problem {
	switch typ {
	case tlsALPN01:
		return s.validateTLSALPN01(ctx, host, keyAuthorization)
	case dns01:
		return s.validateDNS01(ctx, host, keyAuthorization)
	default:
		return s.validateHTTP01(ctx, host, token, keyAuthorization)
	}
}

// dialTarget connects to the address of a target. An empty address refuses
// connections.
func dialTarget(ctx context.Context, addr string) (net.Conn, error) {
	if addr == "" {
		return nil, syscall.ECONNREFUSED
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// connectionProblem describes a failure to connect or to read. what says where.
func connectionProblem(err error, what string) *Problem {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return problemf("connection", "%s: connection refused", what)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return problemf("connection", "%s: no answer within %v (is a firewall in the way?)", what, validationTimeout)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, io.ErrClosedPipe):
		return problemf("connection", "%s: the connection was closed before the answer was complete", what)
	default:
		return problemf("connection", "%s: %v", what, err)
	}
}
