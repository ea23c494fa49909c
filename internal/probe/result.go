package probe

import (
	"slices"

	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/challenge"
)

// Result is what a check found.
type Result struct {
	Verdict Verdict
	Err     error // a *preflight.Error, whatever the verdict

	findings []finding
}

// Verdict says whether the name leads here.
type Verdict uint8

const (
	Undecided Verdict = iota // the check was inconclusive
	Elsewhere                // no address can answer a challenge
	InPart                   // at least one can
	Here                     // each that this machine can ask
)

// conclude returns the result for what was found. Nothing is refused on the word of a
// probe that failed by itself, or of a machine that lacks the route.
func conclude(e *preflight.Error, findings []finding) Result {
	isWrong, isUnknown := false, false
	for _, f := range findings {
		e.Findings = append(e.Findings, f.Finding)
		e.Reachable = e.Reachable || f.OK
		isWrong = isWrong || f.outcome == wrong
		isUnknown = isUnknown || f.outcome == unknown
	}
	e.Undecided = !e.Reachable && (isUnknown || !isWrong)
	r := resultOf(e, findings)
	if r.Verdict == InPart && !isWrong && !isUnknown {
		r.Verdict = Here
	}
	return r
}

func resultOf(e *preflight.Error, findings []finding) Result {
	r := Result{Verdict: Elsewhere, Err: e, findings: findings}
	switch {
	case e.Reachable:
		r.Verdict = InPart
	case e.Undecided:
		r.Verdict = Undecided
	}
	return r
}

// Types returns the challenge types to try: of those that are due the ones that work
// come first. If none of these works, one that does comes before them.
func (r Result) Types(due []string) []string {
	return r.order(due, func(string) bool { return true })
}

// TypesThatMayWork is Types without those that are known not to work, if one works.
func (r Result) TypesThatMayWork(due []string) []string { return r.order(due, r.mayWork) }

// order returns the challenge types to try: those that work, and then the rest of
// what is due, as far as keep reports true. Without one that works it is what is due.
func (r Result) order(due []string, keep func(typ string) bool) []string {
	var work []string
	for _, typ := range []string{challenge.TLSALPN01, challenge.HTTP01} {
		if slices.ContainsFunc(r.findings, func(f finding) bool { return f.OK && f.Challenge == typ }) {
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
		case keep(typ):
			rest = append(rest, typ)
		}
	}
	if len(first) == 0 {
		first = work[:1:1]
	}
	return append(first, rest...)
}

// mayWork reports whether the CA may see by a challenge type what this machine does
// not.
func (r Result) mayWork(typ string) bool {
	return slices.ContainsFunc(r.findings, func(f finding) bool {
		return f.Challenge == typ && f.outcome == unknown
	})
}
