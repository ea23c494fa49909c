package certmgr

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// probe is a challenge of a preflight, whose answer is live.
type probe struct {
	typ    string
	token  string
	port   uint16
	answer *challenge.Answer
	want   []byte // its proof
	run    func(ctx context.Context, c connector, host string, p *probe) probeResult
}

// probeResult is what one address did with a probe.
type probeResult struct {
	outcome outcomeOfProbe
	text    string // what answered
	err     error  // the cause, if there is one
	ours    bool   // a Manager answered, and something is in its way
}

// outcomeOfProbe is what a probe says about the name.
type outcomeOfProbe uint8

const (
	probeWrong   outcomeOfProbe = iota // the CA would not get the answer there
	probeRight                         // it would
	probeNoRoute                       // this machine cannot ask that address
	probeUnknown                       // the probe itself went wrong, or leads to where it does not follow
)

// present makes the answers to one challenge of each usable type available, with
// a token and an account key that exist for that alone.
func (f *preflight) present(ctx context.Context, host string, later func(func(context.Context))) ([]*probe, error) {
	ctx, cancel := context.WithTimeout(ctx, presentTimeout)
	defer cancel()
	key, err := bundle.GenerateKey(bundle.ECDSA)
	if err != nil {
		return nil, err
	}
	probes := []*probe{{typ: challenge.TLSALPN01, port: 443, run: probeTLS}}
	if f.settings.http01.Load() {
		probes = append(probes, &probe{typ: challenge.HTTP01, port: 80, run: probeHTTP})
	}
	for i, p := range probes {
		p.token = rand.Text()
		p.answer, err = f.answers.Present(ctx, &acme.Client{Key: key}, &acme.Challenge{Type: p.typ, Token: p.token}, host)
		if err != nil {
			for _, done := range probes[:i] {
				done.answer.Remove()
			}
			return nil, err
		}
		p.want = p.answer.Proof()
		later(p.answer.Forget)
	}
	return probes, nil
}

// ask sends every probe to every address, all at the same time.
func (f *preflight) ask(ctx context.Context, host string, addrs []netip.Addr, probes []*probe) []PreflightFinding {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	findings := make([]PreflightFinding, len(addrs)*len(probes))
	var wg sync.WaitGroup
	for i := range findings {
		addr, p := addrs[i/len(probes)], probes[i%len(probes)]
		wg.Go(func() {
			r := f.askOne(ctx, host, addr, p)
			findings[i] = PreflightFinding{
				Addr:      netip.AddrPortFrom(addr, p.port),
				Challenge: p.typ,
				OK:        r.outcome == probeRight,
				Answer:    text.OneLine(r.text, maxAnswerText),
				Err:       r.err,
				outcome:   r.outcome,
				ours:      r.ours,
			}
		})
	}
	wg.Wait()
	return findings
}

func (f *preflight) askOne(ctx context.Context, host string, addr netip.Addr, p *probe) probeResult {
	if r, ok := unaskable(addr); ok {
		return r
	}
	key := fmt.Sprintf("%s %s %s", host, p.typ, addr)
	r, err := flight.CallOut(ctx, f.dials, key, func(ctx context.Context) (probeResult, error) {
		return p.run(ctx, connector{dial: f.settings.preflightDial, addr: addr}, host, p), nil
	})
	if err != nil {
		return connectFailed(errNotConnected{err})
	}
	_, connecting := errors.AsType[errNotConnected](r.err)
	if r.outcome == probeWrong && !r.ours && !p.answer.Stored() && !connecting && !isTimeout(r.err) {
		r.outcome = probeUnknown // it may be a machine of the same fleet
		r.text += " (the Cache did not take the answer, and another machine would look for it there)"
	}
	return r
}

// unaskable keeps probes away from addresses that no CA asks either: a name's
// owner chooses its addresses, and must not have this machine speak to itself or
// to what is reached by its links alone (RFC 3927, a cloud's metadata service). A
// loopback address says little about the name: hosts files have such.
func unaskable(addr netip.Addr) (probeResult, bool) {
	switch {
	case addr.IsLoopback():
		return probeResult{outcome: probeNoRoute, text: "a loopback address, not asked (is there a line in the hosts file?)"}, true
	case addr.IsUnspecified(), addr.IsMulticast(), addr.IsLinkLocalUnicast(), addr.Zone() != "":
		return probeResult{outcome: probeWrong, text: "an address that no CA can reach, not asked"}, true
	}
	return probeResult{}, false
}

// connector connects to one address.
type connector struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error) // nil: a net.Dialer
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
func connectFailed(err error) probeResult {
	r := probeResult{err: err, text: briefly(err)}
	_, connecting := errors.AsType[errNotConnected](err)
	switch {
	case errors.Is(err, flight.ErrPanic), errors.Is(err, ErrBusy):
		r.outcome = probeUnknown
	case isTimeout(err) && connecting:
		r.text = "no answer (timeout)"
	case isTimeout(err):
		r.text = "accepts the connection and says nothing (timeout)"
	case connecting && isNoRoute(err):
		r.outcome = probeNoRoute
		r.text = "not asked, this machine has no route to it"
	case isClosed(err):
		r.text = "closes the connection without an answer"
	case connecting && !isRefused(err):
		r.outcome = probeUnknown // this machine's trouble or PreflightDial's: too many open files, say
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
	said := briefly(err)
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(said, text) })
}

func isClosed(err error) bool {
	text := briefly(err)
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) ||
		strings.Contains(text, "connection reset") || strings.Contains(text, "broken pipe")
}

// briefly returns the innermost cause of an error, in one line, or what a callback
// did wrong. What comes from a peer is escaped by the caller.
func briefly(err error) string {
	if death, ok := errors.AsType[*flight.Death](err); ok {
		return death.Brief()
	}
	if !errors.Is(err, flight.ErrPanic) && !errors.Is(err, ErrBusy) {
		for cause := errors.Unwrap(err); cause != nil; cause = errors.Unwrap(cause) {
			err = cause
		}
	}
	line, _, _ := strings.Cut(text.Of(err), "\n")
	return line
}
