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

// probe is a challenge of a check, whose answer is live.
type probe struct {
	typ    string
	token  string
	port   uint16
	answer *challenge.Answer
	want   []byte // its proof
	run    func(ctx context.Context, c connector, host string, p *probe) reply
}

// reply is what one address did with a probe.
type reply struct {
	outcome outcome
	text    string // what answered
	err     error  // the cause, if there is one
	ours    bool   // a Manager answered, and something is in its way
}

// present makes the answers to one challenge of each usable type available, with
// a token and an account key that exist for that alone.
func (c *Checker) present(ctx context.Context, host string, later func(func(context.Context))) ([]*probe, error) {
	ctx, cancel := context.WithTimeout(ctx, PresentTimeout)
	defer cancel()
	key, err := bundle.GenerateKey(bundle.ECDSA)
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

// ask sends every probe to every address, all at the same time.
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

// finding returns what the reply of an address comes to.
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

// maxAnswerText bounds the text of one answer, in bytes.
const maxAnswerText = 300

func (c *Checker) askOne(ctx context.Context, host string, addr netip.Addr, p *probe) reply {
	if r, ok := unaskable(addr); ok {
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

// unaskable keeps probes away from addresses that no CA asks either: a name's
// owner chooses its addresses, and must not have this machine speak to itself or
// to what is reached by its links alone (RFC 3927, a cloud's metadata service). A
// loopback address says little about the name: hosts files have such.
func unaskable(addr netip.Addr) (reply, bool) {
	switch {
	case addr.IsLoopback():
		return reply{outcome: noRoute, text: "a loopback address, not asked (is there a line in the hosts file?)"}, true
	case addr.IsUnspecified(), addr.IsMulticast(), addr.IsLinkLocalUnicast(), addr.Zone() != "":
		return reply{outcome: wrong, text: "an address that no CA can reach, not asked"}, true
	}
	return reply{}, false
}
