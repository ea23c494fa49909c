package probe

import (
	"slices"

	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/challenge"
)

// Result is the result of a check.
type Result struct {
	Verdict Verdict
	Err     error // always a *preflight.Error, for every verdict

	findings []finding
}

// Verdict says whether the name leads here.
type Verdict uint8

const (
	Undecided Verdict = iota // the check was inconclusive
	Elsewhere                // no address can answer a challenge
	InPart                   // at least one can
	Here                     // all that this machine can reach can
)

// conclude adds the findings to e and returns the result. A probe that failed
// by itself, or an address without a route, is no reason to hold a name to lead
// elsewhere.
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

// Types returns the challenge types to try: those of due that work, then the
// rest of due. If none of due works but another type does, that type comes
// first.
func (r Result) Types(due []string) []string {
	return r.order(due, func(string) bool { return true })
}

// TypesThatMayWork is Types without those known not to work. If no type works,
// it returns due.
func (r Result) TypesThatMayWork(due []string) []string { return r.order(due, r.mayWork) }

// order returns the types that work, then those of the rest for which keep
// returns true. If no type works, it returns due.
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

// mayWork reports whether a challenge type may work for the CA although it did
// not for this machine.
func (r Result) mayWork(typ string) bool {
	return slices.ContainsFunc(r.findings, func(f finding) bool {
		return f.Challenge == typ && f.outcome == unknown
	})
}
