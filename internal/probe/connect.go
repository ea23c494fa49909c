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

// errNotConnected marks an error as a failure to connect.
type errNotConnected struct{ error }

func (e errNotConnected) Unwrap() error { return e.error }

// connect returns a connection whose reads and writes end with ctx. The caller
// must call end, which closes it. Dial and connection are the user's code: the
// callout recovers their panics in the caller's goroutine.
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

// connectFailed returns the reply for an error that occurred before any
// response.
func connectFailed(err error) reply {
	r := reply{err: err, text: flight.Brief(err)}
	_, connecting := errors.AsType[errNotConnected](err)
	switch {
	case errors.Is(err, flight.ErrPanic), errors.Is(err, flight.ErrBusy):
		r.outcome = unknown
	case flight.IsTimeout(err) && connecting:
		r.text = "no answer (timeout)"
	case flight.IsTimeout(err):
		r.text = "accepts the connection but sends nothing (timeout)"
	case connecting && isNoRoute(err):
		r.outcome = noRoute
		r.text = "not asked, this machine has no route to it"
	case isClosed(err):
		r.text = "closes the connection without an answer"
	case connecting && !isRefused(err):
		r.outcome = unknown // a local failure or PreflightDial's: too many open files, for example
	}
	return r
}

// isNoRoute reports whether this machine cannot send to an address at all, such
// as one without IPv6. The errno differs between systems, and package syscall
// lacks it on some, so the text decides.
func isNoRoute(err error) bool {
	return saysOneOf(err, "network is unreachable", "unreachable network", "assign requested address",
		"requested address is not valid", "address family not supported", "incompatible with the requested protocol")
}

// isRefused reports whether the network or the peer refused the connection.
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
