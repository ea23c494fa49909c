package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// Error says where a name leads and what answered there. Get it with errors.As,
// from a *certmgr.IssuanceError or the Err of audit.HostUnreachable. It wraps
// the causes, and ErrUnreachable if no address can answer a challenge.
type Error struct {
	Host      string        // normalised host name, or an IP address
	Addrs     []netip.Addr  // its addresses, in the resolver's order; the first 8 were probed
	Findings  []Finding     // by address and challenge type
	Reachable bool          // at least one address gave the right response: issuance proceeds
	Undecided bool          // the check was inconclusive: issuance proceeds
	ClockSkew time.Duration // how far the CA's clock is ahead of the local one (negative: behind), if more than 5 minutes; else 0
	Err       error         // why the lookup or the check failed, or nil
}

// Finding is the result for one port of one address and one challenge.
type Finding struct {
	Addr      netip.AddrPort
	Challenge string // "tls-alpn-01" or "http-01"
	OK        bool   // it gave the right response
	Answer    string // what it did instead, in words; escaped, at most 300 bytes
	Err       error  // the cause, or nil

	NoRoute    bool // this machine cannot reach the address, which says nothing about the name
	ThisServer bool // a Manager with the same Cache answered, but not as a CA requires
}

const (
	maxText   = 512 // of an Error, in bytes
	maxListed = 8   // addresses in the text: those that were probed
)

// Error returns one line of at most 512 bytes. If it is too long, the
// description of the responses is cut, not the advice.
func (e *Error) Error() string {
	if e == nil {
		return "<nil>"
	}
	tail := e.advice() + e.clock()
	head := e.Host
	switch {
	case e.leadsHere() && e.ofAddress():
		head += " leads here as seen from this machine"
	case e.leadsHere():
		head += " leads here as seen from this machine (" + e.where() + ")"
	case e.Err != nil && e.Undecided:
		head += ": " + flight.Brief(e.Err)
	case len(e.Addrs) == 0:
		head += " has no address in DNS"
	case e.ofAddress():
		head += " was asked: " + strings.Join(e.clauses(), "; ")
	default:
		head += " leads to " + e.where() + ": " + strings.Join(e.clauses(), "; ")
	}
	return text.WithTail(head, tail, maxText)
}

// Unwrap returns the causes, and ErrUnreachable if no address can answer a
// challenge.
func (e *Error) Unwrap() []error {
	if e == nil {
		return nil
	}
	var causes []error
	if !e.Reachable && !e.Undecided {
		causes = append(causes, ErrUnreachable)
	}
	if e.Err != nil {
		causes = append(causes, e.Err)
	}
	for _, f := range e.Findings {
		if f.Err != nil {
			causes = append(causes, f.Err)
		}
	}
	return causes
}

// leadsHere reports whether every address that this machine can reach leads
// here.
func (e *Error) leadsHere() bool {
	return e.Reachable && allOf(e.Findings, func(f Finding) bool { return f.OK || f.NoRoute })
}

// ofAddress reports whether the host is an IP address, which leads to itself.
func (e *Error) ofAddress() bool { return len(e.Addrs) == 1 && e.Addrs[0].String() == e.Host }

// where lists the addresses that were probed.
func (e *Error) where() string {
	var texts []string
	for _, addr := range e.Addrs[:min(len(e.Addrs), maxListed)] {
		text := addr.String()
		if addr.IsPrivate() {
			text += " (private)"
		}
		texts = append(texts, text)
	}
	all := strings.Join(texts, ", ")
	if more := len(e.Addrs) - len(texts); more > 0 {
		all += fmt.Sprintf(" and %d more", more)
	}
	return all
}

// clauses describes the wrong responses, each once.
func (e *Error) clauses() []string {
	var answers []string
	places := make(map[string][]string)
	add := func(place, answer string) {
		if places[answer] == nil {
			answers = append(answers, answer)
		}
		places[answer] = append(places[answer], place)
	}
	for i := 0; i < len(e.Findings); {
		n := 1 // findings of the same address
		for i+n < len(e.Findings) && e.Findings[i+n].Addr.Addr() == e.Findings[i].Addr.Addr() {
			n++
		}
		one := e.Findings[i : i+n]
		i += n
		if same := func(f Finding) bool { return f.Answer == one[0].Answer }; n > 1 && !one[0].OK && allOf(one, same) {
			add(one[0].Addr.Addr().String(), one[0].Answer)
			continue
		}
		for _, f := range one {
			if !f.OK {
				add(fmt.Sprintf("port %d of %s", f.Addr.Port(), f.Addr.Addr()), f.Answer)
			}
		}
	}
	texts := make([]string, len(answers))
	for i, answer := range answers {
		texts[i] = strings.Join(places[answer], ", ") + ": " + answer
	}
	return texts
}

func allOf[T any](list []T, f func(T) bool) bool {
	return !slices.ContainsFunc(list, func(v T) bool { return !f(v) })
}

// advice says what to do.
func (e *Error) advice() string {
	switch {
	case e.leadsHere() && e.ofAddress():
		return ", so the CA sees something else: look for a firewall or a NAT in front"
	case e.leadsHere():
		return ", so the CA sees something else: look for a firewall, an AAAA record, DNS that differs inside and outside"
	case e.Reachable:
		return "; the rest leads here"
	case e.Undecided && e.ofAddress():
		return "; so it is unknown whether the address leads here"
	case e.Undecided:
		return "; so it is unknown whether the name leads here"
	case len(e.Addrs) == 0:
		return ": make it point here, or take it off the list"
	case slices.ContainsFunc(e.Findings, func(f Finding) bool { return f.ThisServer }):
		return ""
	case e.ofAddress():
		return ". This server did not get the request: have the address lead here, or take it off the list"
	}
	return ". This server did not get the request: point the name here, or take it off the list"
}

func (e *Error) clock() string {
	if e.ClockSkew == 0 {
		return ""
	}
	return "; " + text.Skew(e.ClockSkew)
}
