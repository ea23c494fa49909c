package certmgr

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// A PreflightMode says what becomes of a host whose name does not lead to this
// server.
type PreflightMode uint8

const (
	// PreflightOff checks nothing and makes no connection. It is the zero value.
	PreflightOff PreflightMode = iota

	// PreflightReport checks before each order and goes on whatever it finds:
	// audit.HostUnreachable tells. After the CA has failed a challenge it checks again,
	// and the finding is joined to the *IssuanceError.
	PreflightReport

	// PreflightEnforce makes no order for a name that does not lead here: the
	// issuance fails at audit.StagePreflight with ErrUnreachable, and Backoff says when
	// the next one is due. Where the check cannot tell (the name cannot be looked
	// up, say) the issuance goes on. It is for servers that reach themselves by
	// their public addresses: some networks do not let them.
	PreflightEnforce
)

// String returns "off", "report" or "enforce".
func (m PreflightMode) String() string {
	switch m {
	case PreflightOff:
		return "off"
	case PreflightEnforce:
		return "enforce"
	}
	return "report"
}

// A Resolver looks up the addresses of a name, as *net.Resolver does, which is
// one. network is "ip". A name that does not exist is a *net.DNSError with
// IsNotFound, or no address and no error; any other error means that nobody
// knows. It must be safe for concurrent use.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

var _ Resolver = (*net.Resolver)(nil)

// preflight finds out whether a name leads to this server, or to one that shares
// its Cache, by doing what the CA will do. It runs within an attempt, which holds
// the host's lock: no real challenge of the host is live in this process.
type preflight struct {
	settings *settings
	answers  *challenge.Answers
	lookups  *flight.Callouts             // PreflightResolver
	dials    *flight.Callouts             // PreflightDial and what its connections do
	skew     func() (time.Duration, bool) // of the CA's clock
}

// The bounds of one check. Its parts follow one another, so that one which hangs
// leaves time for the rest.
const (
	preflightTimeout = 5 * time.Second // in all
	lookupTimeout    = 2 * time.Second // the name's addresses
	presentTimeout   = time.Second     // writing the answers to the Cache
	probeTimeout     = 3 * time.Second // each address, and all of them: they are asked at the same time
	maxProbedAddrs   = 8

	maxLookups = 256
	maxDials   = 1024
)

// precheck is the preflight before an order. It puts the challenge types that
// will work first, and returns an error if no order is to be made.
func (c *conversation) precheck(ctx context.Context) error {
	if c.preflight == nil || c.checked {
		return nil
	}
	c.checked = true
	c.enter(audit.StagePreflight)
	found := c.preflight.check(ctx, c.host(), c.cleanup.Later)
	if ctx.Err() != nil {
		return errors.New("the preflight was cut short")
	}
	enforce := c.preflight.settings.preflight == PreflightEnforce
	c.types = found.order(c.types, enforce)
	if found.clean() {
		return nil
	}
	e := audit.Event{
		Kind:     audit.HostUnreachable,
		Stage:    audit.StagePreflight,
		Decision: audit.Allowed,
		Rule:     "Preflight: " + c.preflight.settings.preflight.String(),
		Err:      found,
	}
	switch {
	case found.Undecided:
		e.Decision = audit.Undecided
	case !found.Reachable && enforce:
		e.Decision = audit.Refused
	}
	c.emit(e)
	if e.Decision == audit.Refused {
		return found
	}
	return nil
}

// diagnose joins what a preflight finds to the error of an attempt whose
// challenge the CA failed.
func (c *conversation) diagnose(ctx context.Context, err error) error {
	if c.preflight == nil || ctx.Err() != nil {
		return err
	}
	found := c.preflight.check(ctx, c.host(), c.cleanup.Later)
	if ctx.Err() != nil {
		return err // it was cut short
	}
	return &diagnosis{err, found}
}

// diagnosis is an attempt's error and what a preflight found after it. What is cut
// short is the CA's reasons, whose length it chooses, and not the finding.
type diagnosis struct {
	err   error
	found *PreflightError
}

// maxDiagnosis leaves room for what an *IssuanceError says before and after it.
const maxDiagnosis = 768

func (d *diagnosis) Error() string {
	return text.WithTail(text.Of(d.err), "; "+d.found.Error(), maxDiagnosis)
}

func (d *diagnosis) Unwrap() []error { return []error{d.err, d.found} }

// check asks every address that the host's name leads to for the answers to
// challenges with a random token. What removes them from the Cache is handed to
// later.
func (f *preflight) check(ctx context.Context, host string, later func(func(context.Context))) *PreflightError {
	ctx, cancel := context.WithTimeout(ctx, preflightTimeout)
	defer cancel()
	e := &PreflightError{Host: host}
	if skew, ok := f.skew(); ok && isOff(skew) {
		e.ClockSkew = skew
	}
	if e.Addrs, e.Err = f.lookup(ctx, host); e.Err != nil || len(e.Addrs) == 0 {
		e.Undecided = e.Err != nil && !isNotFound(e.Err)
		return e
	}
	probes, err := f.present(ctx, host, later)
	if err != nil {
		e.Err, e.Undecided = err, true
		return e
	}
	defer func() {
		for _, p := range probes {
			p.answer.Remove()
		}
	}()
	e.Findings = f.ask(ctx, host, e.Addrs[:min(len(e.Addrs), maxProbedAddrs)], probes)
	e.judge()
	return e
}

// lookup returns the addresses of host, each once.
func (f *preflight) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := flight.CallOut(ctx, f.lookups, host, func(ctx context.Context) ([]netip.Addr, error) {
		resolver := f.settings.preflightResolver
		if resolver == nil {
			resolver = net.DefaultResolver
		}
		if r, ok := resolver.(*net.Resolver); ok {
			return lookupBy(ctx, r, host+".") // or it would try the search list too
		}
		return resolver.LookupNetIP(ctx, "ip", host)
	})
	if err != nil {
		return nil, err
	}
	var unique []netip.Addr
	for _, addr := range addrs[:min(len(addrs), maxAddrs)] {
		if addr = addr.Unmap(); addr.IsValid() && !slices.Contains(unique, addr) {
			unique = append(unique, addr)
		}
	}
	return unique, nil
}

// lookupBy returns the addresses of name. If a net.Resolver has none, its error is
// the one that came first: that there is no IPv6 address, say, while the IPv4 one
// could not be looked up. So each kind is asked for by itself then.
func lookupBy(ctx context.Context, r *net.Resolver, name string) ([]netip.Addr, error) {
	all, err := r.LookupNetIP(ctx, "ip", name)
	if !isNotFound(err) {
		return all, err
	}
	for _, network := range []string{"ip4", "ip6"} {
		addrs, failed := r.LookupNetIP(ctx, network, name)
		all = append(all, addrs...)
		if failed != nil && !isNotFound(failed) {
			err = failed
		}
	}
	if len(all) > 0 {
		err = nil
	}
	return all, err
}

// maxAddrs bounds what is kept of a resolver's answer.
const maxAddrs = 64

func isNotFound(err error) bool {
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && e.IsNotFound
}
