package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/internal/flight"
)

// connector connects to one address.
type connector struct {
	dial Dial // nil: a net.Dialer
	addr netip.Addr
}

// errNotConnected marks an error as one of connecting.
type errNotConnected struct{ error }

func (e errNotConnected) Unwrap() error { return e.error }

// connect returns a connection whose reads and writes end with ctx. end closes
// it, and has to be called. Dial and connection are the user's code: what they
// panic with in the caller's goroutine ends in the callout.
func (c connector) connect(ctx context.Context, port uint16) (conn net.Conn, end func(), err error) {
	dial := c.dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if conn, err = dial(ctx, "tcp", netip.AddrPortFrom(c.addr, port).String()); err != nil {
		return nil, nil, errNotConnected{err}
	}
	if conn == nil {
		return nil, nil, errNotConnected{fmt.Errorf("%w: PreflightDial returned neither a connection nor an error", flight.ErrPanic)}
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		defer func() { _ = recover() }()
		conn.SetDeadline(time.Unix(1, 0))
	})
	return conn, func() {
		if !stop() {
			<-interrupted
		}
		conn.Close()
	}, nil
}

// connectFailed says what an error means that came before any answer, or instead
// of one.
func connectFailed(err error) reply {
	r := reply{err: err, text: flight.Brief(err)}
	_, connecting := errors.AsType[errNotConnected](err)
	switch {
	case errors.Is(err, flight.ErrPanic), errors.Is(err, flight.ErrBusy):
		r.outcome = unknown
	case flight.IsTimeout(err) && connecting:
		r.text = "no answer (timeout)"
	case flight.IsTimeout(err):
		r.text = "accepts the connection and says nothing (timeout)"
	case connecting && isNoRoute(err):
		r.outcome = noRoute
		r.text = "not asked, this machine has no route to it"
	case isClosed(err):
		r.text = "closes the connection without an answer"
	case connecting && !isRefused(err):
		r.outcome = unknown // this machine's trouble or PreflightDial's: too many open files, say
	}
	return r
}

// isNoRoute reports whether a machine cannot send to an address at all, as one
// without IPv6, or a container in which it is switched off. The errno differs
// between systems, and package syscall does not have it on all; what they all say
// is in its text.
func isNoRoute(err error) bool {
	return saysOneOf(err, "network is unreachable", "unreachable network", "assign requested address",
		"requested address is not valid", "address family not supported", "incompatible with the requested protocol")
}

// isRefused reports whether it was the network or the other side that did not let
// a connection come about.
func isRefused(err error) bool {
	return saysOneOf(err, "refused", "no route to host", "unreachable host", "host is down")
}

func saysOneOf(err error, texts ...string) bool {
	said := flight.Brief(err)
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(said, text) })
}

func isClosed(err error) bool {
	text := flight.Brief(err)
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) ||
		strings.Contains(text, "connection reset") || strings.Contains(text, "broken pipe")
}
