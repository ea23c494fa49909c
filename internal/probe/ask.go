package probe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// probe is one challenge of a check.
type probe struct {
	typ    string
	token  string
	port   uint16
	answer *challenge.Answer
	want   []byte // the expected response
	run    func(ctx context.Context, c connector, host string, p *probe) reply
}

// reply is the reply of one address to a probe.
type reply struct {
	outcome outcome
	text    string // describes what answered
	err     error  // the cause, or nil
	ours    bool   // a Manager with the same Cache answered, but not as a CA requires
}

// present makes the response to one challenge of each usable type available.
// Token and account key are used for nothing else.
func (c *Checker) present(ctx context.Context, host string, later func(func(context.Context) bool)) ([]*probe, error) {
	ctx, cancel := context.WithTimeout(ctx, PresentTimeout)
	defer cancel()
	key, err := bundle.GenerateKey(bundle.P256)
	if err != nil {
		return nil, err
	}
	client := &acme.Client{Key: key}
	var probes []*probe
	for _, typ := range c.conf.Types() {
		p := newProbe(typ)
		p.answer, err = c.conf.Answers.Present(ctx, client, &acme.Challenge{Type: typ, Token: p.token}, host)
		if err != nil {
			for _, done := range probes {
				done.answer.Remove()
			}
			return nil, err
		}
		later(p.answer.Forget)
		p.want = p.answer.Proof()
		probes = append(probes, p)
	}
	return probes, nil
}

func newProbe(typ string) *probe {
	p := &probe{typ: typ, token: rand.Text(), port: 443, run: askTLS}
	if typ == challenge.HTTP01 {
		p.port, p.run = 80, askHTTP
	}
	return p
}

// ask sends every probe to every address, concurrently.
func (c *Checker) ask(ctx context.Context, host string, addrs []netip.Addr, probes []*probe) []finding {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	findings := make([]finding, len(addrs)*len(probes))
	var wg sync.WaitGroup
	for i := range findings {
		addr, p := addrs[i/len(probes)], probes[i%len(probes)]
		wg.Go(func() { findings[i] = p.finding(addr, c.askOne(ctx, host, addr, p)) })
	}
	wg.Wait()
	return findings
}

// finding returns the finding for the reply of an address.
func (p *probe) finding(addr netip.Addr, r reply) finding {
	return finding{
		Finding: preflight.Finding{
			Addr:       netip.AddrPortFrom(addr, p.port),
			Challenge:  p.typ,
			OK:         r.outcome == right,
			Answer:     text.OneLine(r.text, maxAnswerText),
			Err:        r.err,
			NoRoute:    r.outcome == noRoute,
			ThisServer: r.ours,
		},
		outcome: r.outcome,
	}
}

// maxAnswerText is the maximum length of preflight.Finding.Answer, in bytes.
const maxAnswerText = 300

// askOne sends a probe to an address. The owner of a name must not choose any
// address; one that is itself the host was allowed as it is.
func (c *Checker) askOne(ctx context.Context, host string, addr netip.Addr, p *probe) reply {
	if r, ok := c.unaskable(addr); ok && addr.String() != host {
		return r
	}
	key := fmt.Sprintf("%s %s %s", host, p.typ, addr)
	r, err := flight.CallOut(ctx, c.conf.Dials, key, func(ctx context.Context) (reply, error) {
		return p.run(ctx, connector{dial: c.conf.Dial, addr: addr}, host, p), nil
	})
	if err != nil {
		return connectFailed(errNotConnected{err})
	}
	_, connecting := errors.AsType[errNotConnected](r.err)
	if r.outcome == wrong && !r.ours && !p.answer.Stored() && !connecting && !flight.IsTimeout(r.err) {
		r.outcome = unknown // it may be a machine of the same fleet
		r.text += " (the Cache did not take the answer, and another machine would look for it there)"
	}
	return r
}

// unaskable reports whether an address must not be probed, and the reply to
// record for it. A loopback address says little about the name: it often comes
// from a hosts file.
func (c *Checker) unaskable(addr netip.Addr) (reply, bool) {
	switch {
	case contains(c.conf.Allow, addr.WithZone("")), !isUnreachable(addr):
		return reply{}, false
	case addr.IsLoopback():
		return reply{outcome: noRoute, text: "a loopback address, not asked (is there a line in the hosts file?)"}, true
	}
	return reply{outcome: wrong, text: "an address that no public CA can reach, not asked (see Manager.PreflightAllow)"}, true
}
