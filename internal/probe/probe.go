// Package probe finds out whether a name leads to this server, or to one that shares
// its Cache, by doing what the CA will do: it looks the name up and asks each address
// for the answers to challenges of its own.
//
// It may know the vocabulary of certmgr/preflight, live answers to challenges, and
// the bounds on callbacks. It knows no orders, events or accounts: its caller decides
// what becomes of a finding. The goroutines of a check end with Check, but for
// callbacks that ignore their context; whoever made the Callouts ends these.
package probe

import (
	"context"
	"net"
	"time"

	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
)

// The bounds of one check. Its parts follow one another, so that one which hangs
// leaves time for the rest.
const (
	Timeout        = 5 * time.Second // in all
	LookupTimeout  = 2 * time.Second // the name's addresses
	PresentTimeout = time.Second     // writing the answers to the Cache
	AskTimeout     = 3 * time.Second // each address, and all of them: they are asked at the same time

	// MaxAsked is how many of a name's addresses are asked. A preflight.Error lists
	// as many.
	MaxAsked = 8
)

// Config is what a Checker needs.
type Config struct {
	Resolver preflight.Resolver // nil: net.DefaultResolver
	Dial     Dial               // nil: a net.Dialer

	Lookups *flight.Callouts // calls of Resolver
	Dials   *flight.Callouts // calls of Dial, and what its connections do

	Answers *challenge.Answers   // where the answers of a check are live
	Types   func() []string      // the challenge types that can be answered
	Skew    func() time.Duration // how far the CA's clock is ahead, if that is worth telling; else 0
}

// Dial connects to an address, as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Checker makes checks. It is safe for concurrent use, but one check at a time for a
// host, which must have no live challenge of its own.
type Checker struct {
	conf Config
}

// New returns a Checker.
func New(conf Config) *Checker { return &Checker{conf} }

// Check asks every address that the host's name leads to for the answers to
// challenges with a random token. What removes them from the Cache is handed to
// later.
func (c *Checker) Check(ctx context.Context, host string, later func(func(context.Context))) Result {
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

// finding is a preflight.Finding and what it says about the name.
type finding struct {
	preflight.Finding
	outcome outcome
}

// outcome is what a probe says about the name.
type outcome uint8

const (
	wrong   outcome = iota // the CA would not get the answer there
	right                  // it would
	noRoute                // this machine cannot ask that address
	unknown                // the probe itself went wrong, or leads to where it does not follow
)
