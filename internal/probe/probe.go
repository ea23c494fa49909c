// Package probe checks whether a name leads to this server, or to one that
// shares its Cache. It does what the CA will do: it resolves the name and
// requests from each address the response to a challenge.
//
// It may know the vocabulary of certmgr/preflight, pending challenges, and the
// limits on callbacks. It knows no orders, events or accounts: its caller
// decides what follows from a result. The goroutines of a check end before
// Check returns, except callbacks that ignore their context; those belong to
// the owner of the Callouts.
package probe

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
)

// The limits of one check. Its steps have time-outs of their own, so that one
// that hangs leaves time for the rest.
const (
	Timeout        = 5 * time.Second // in all
	LookupTimeout  = 2 * time.Second // the name's addresses
	PresentTimeout = time.Second     // writing the answers to the Cache
	AskTimeout     = 3 * time.Second // all addresses, which are probed concurrently

	// MaxAsked is the number of a name's addresses that are probed. A
	// preflight.Error lists as many.
	MaxAsked = 8
)

// Config is what a Checker needs.
type Config struct {
	Resolver preflight.Resolver // nil: net.DefaultResolver
	Dial     Dial               // nil: a net.Dialer
	Allow    []netip.Prefix     // addresses to ask although no public CA can reach them

	Lookups *flight.Callouts // limits calls of Resolver
	Dials   *flight.Callouts // limits calls of Dial, including the use of its connections

	Answers *challenge.Answers   // gets the answers to a check's challenges
	Types   func() []string      // returns the usable challenge types
	Skew    func() time.Duration // returns how far the CA's clock is ahead, or 0 if that is unknown or harmless
}

// Dial connects to an address, as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Checker checks names. It is safe for concurrent use for different hosts.
// While a host is checked, none of its challenges may be pending in this
// process.
type Checker struct {
	conf Config
}

// New returns a Checker.
func New(conf Config) *Checker { return &Checker{conf} }

// Check requests from every address of the host the response to challenges with
// random tokens. It passes the functions that delete the responses from the
// Cache to later.
func (c *Checker) Check(ctx context.Context, host string, later func(func(context.Context) bool)) Result {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	e := &preflight.Error{Host: host, ClockSkew: c.conf.Skew()}
	if e.Addrs, e.Err = c.lookup(ctx, host); e.Err != nil || len(e.Addrs) == 0 {
		e.Undecided = e.Err != nil && !isNotFound(e.Err)
		return resultOf(e, nil)
	}
	probes, err := c.present(ctx, host, later)
	if err != nil {
		e.Err, e.Undecided = err, true
		return resultOf(e, nil)
	}
	defer func() {
		for _, p := range probes {
			p.answer.Remove()
		}
	}()
	return conclude(e, c.ask(ctx, host, e.Addrs[:min(len(e.Addrs), MaxAsked)], probes))
}

// finding is a preflight.Finding with its outcome.
type finding struct {
	preflight.Finding
	outcome outcome
}

// outcome is what a probe says about the name.
type outcome uint8

const (
	wrong   outcome = iota // the CA would not get the response there
	right                  // it would
	noRoute                // this machine cannot reach the address
	unknown                // the probe itself failed, or met a redirect that it does not follow
)
