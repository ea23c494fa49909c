package certmgr

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/text"
)

// PreflightError says where a name leads and what answered there. Get it with
// errors.As, from an *IssuanceError or the Err of audit.HostUnreachable. It wraps
// ErrUnreachable if nothing that answers is this server, and the causes.
type PreflightError struct {
	Host      string             // normalised host name
	Addrs     []netip.Addr       // what it resolves to, in the resolver's order; the first 8 were asked
	Findings  []PreflightFinding // by address and challenge type
	Reachable bool               // at least one address gave a right answer: nothing is held back
	Undecided bool               // the check could not tell: nothing is held back
	ClockSkew time.Duration      // how far the CA's clock is ahead of the local one, if that is more than 5 minutes either way; else 0
	Err       error              // why the name could not be looked up or the check not be made, or nil
}

// PreflightFinding is what one port of one address did with one challenge.
type PreflightFinding struct {
	Addr      netip.AddrPort
	Challenge string // "tls-alpn-01" or "http-01"
	OK        bool   // it gave the right answer
	Answer    string // what it did instead, in words; escaped, 300 bytes at most
	Err       error  // the cause, if there is one

	outcome outcomeOfProbe
	ours    bool // a Manager answered, and something is in its way
}

const (
	maxAnswerText    = 300
	maxPreflightText = 512
)

// Error is one line of at most 512 bytes. What is cut short is what answered, and
// not what to do.
func (e *PreflightError) Error() string {
	if e == nil {
		return "<nil>"
	}
	tail := e.advice() + e.clock()
	head := e.Host
	switch {
	case e.clean():
		head += " leads here as seen from this machine (" + e.where() + ")"
	case e.Err != nil && e.Undecided:
		head += ": " + briefly(e.Err)
	case len(e.Addrs) == 0:
		head += " has no address in DNS"
	default:
		head += " leads to " + e.where() + ": " + strings.Join(e.clauses(), "; ")
	}
	return text.WithTail(head, tail, maxPreflightText)
}

// Unwrap returns ErrUnreachable, unless there is hope, and the causes.
func (e *PreflightError) Unwrap() []error {
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

// judge draws the conclusion from the findings. Nothing is refused on the word of
// a probe that failed by itself, or of a machine that lacks the route.
func (e *PreflightError) judge() {
	wrong, unknown := false, false
	for _, f := range e.Findings {
		e.Reachable = e.Reachable || f.OK
		wrong = wrong || f.outcome == probeWrong
		unknown = unknown || f.outcome == probeUnknown
	}
	e.Undecided = !e.Reachable && (unknown || !wrong)
}

// clean reports whether there is nothing to tell: who leads here, and by each
// address that this machine can ask.
func (e *PreflightError) clean() bool {
	return e.Reachable && !slices.ContainsFunc(e.Findings, func(f PreflightFinding) bool {
		return f.outcome == probeWrong || f.outcome == probeUnknown
	})
}

// order returns the challenge types to try: of those that were due the ones first
// that work, and with only none that does not. If nothing of what is due works, one
// that does comes before it.
func (e *PreflightError) order(due []string, only bool) []string {
	var work []string
	for _, typ := range []string{challenge.TLSALPN01, challenge.HTTP01} {
		if slices.ContainsFunc(e.Findings, func(f PreflightFinding) bool { return f.OK && f.Challenge == typ }) {
			work = append(work, typ)
		}
	}
	if len(work) == 0 {
		return due
	}
	var first, rest []string
	for _, typ := range due {
		switch {
		case slices.Contains(work, typ):
			first = append(first, typ)
		case !only || !e.refutes(typ):
			rest = append(rest, typ) // the CA may see what this machine does not
		}
	}
	if len(first) == 0 {
		first = work[:1:1]
	}
	return append(first, rest...)
}

// refutes reports whether a challenge type is known not to work.
func (e *PreflightError) refutes(typ string) bool {
	return !slices.ContainsFunc(e.Findings, func(f PreflightFinding) bool {
		return f.Challenge == typ && f.outcome == probeUnknown
	})
}

// where lists the addresses.
func (e *PreflightError) where() string {
	var texts []string
	for _, addr := range e.Addrs[:min(len(e.Addrs), maxProbedAddrs)] {
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

// clauses says what answered wrongly, each answer once.
func (e *PreflightError) clauses() []string {
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
		if same := func(f PreflightFinding) bool { return f.Answer == one[0].Answer }; n > 1 && !one[0].OK && allOf(one, same) {
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
func (e *PreflightError) advice() string {
	switch {
	case e.clean():
		return ", so the CA sees something else: look for a firewall, an AAAA record, DNS that differs inside and outside"
	case e.Reachable:
		return "; the rest leads here"
	case e.Undecided:
		return "; so whether the name leads here is not known"
	case len(e.Addrs) == 0:
		return ": make it point here, or take it off the list"
	case slices.ContainsFunc(e.Findings, func(f PreflightFinding) bool { return f.ours }):
		return ""
	}
	return ". This server did not get the request: point the name here, or take it off the list"
}

func (e *PreflightError) clock() string {
	if e.ClockSkew == 0 {
		return ""
	}
	return "; " + clockText(e.ClockSkew)
}
