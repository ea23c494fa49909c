package certmgr

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

// heldFor is how long nothing is tried for a host that the CA has paused or
// rejected: an attempt cannot succeed before somebody acts.
const heldFor = 24 * time.Hour

// holdFor returns heldFor with jitter, which does not shorten it.
func holdFor() time.Duration { return heldFor + rand.N(heldFor/10) }

// isHeld reports whether the CA will not certify the host before somebody acts.
func (s HostState) isHeld() bool { return s == StatePaused || s == StateRejected }

// stateAfter returns the state of a host without a certificate after an attempt
// failed with err at a stage: StatePaused, StateRejected, or StateBackoff for
// all failures that may go away by themselves.
func stateAfter(err error, stage audit.Stage) HostState {
	state := StateBackoff
	for _, p := range text.Problems(err) {
		switch {
		case acmeclient.IsPause(p):
			return StatePaused
		case isRejection(p, stage):
			state = StateRejected
		}
	}
	return state
}

// unpauseURL returns the link in the text of a pause, or "".
func unpauseURL(err error) string {
	for _, p := range text.Problems(err) {
		if acmeclient.IsPause(p) {
			return acmeclient.PauseLink(p)
		}
	}
	return ""
}

// isRejection reports whether the CA's policy, or the CAA records of the
// domain, forbid a certificate for the name.
func isRejection(p *acme.Error, stage audit.Stage) bool {
	if p.StatusCode >= http.StatusInternalServerError {
		return false
	}
	if forbids(p.ProblemType, p.Detail, stage) {
		return true
	}
	for _, sub := range p.Subproblems {
		if forbids(sub.Type, sub.Detail, stage) {
			return true
		}
	}
	return false
}

func forbids(problemType, detail string, stage audit.Stage) bool {
	detail = strings.ToLower(detail)
	switch acmeclient.ProblemKind(problemType) {
	case "rejectedidentifier", "unsupportedidentifier":
		return true
	case "caa":
		// If the records could not be looked up, that may go away.
		return !isLookupFailure(detail)
	case "malformed", "unauthorized":
		// Boulder's type for names that its policy does not know, and other
		// CAs' for names that their policy forbids.
		return stage == audit.StageOrder && (strings.Contains(detail, "cannot issue for") || strings.Contains(detail, "forbidden by policy"))
	}
	return false
}

func isLookupFailure(detail string) bool {
	for _, sign := range []string{"dns problem", "servfail", "timed out", "timeout", "looking up"} {
		if strings.Contains(detail, sign) {
			return true
		}
	}
	return false
}

// hold makes e that of a paused or rejected host, if it is one: it says what to
// do, and the next attempt is a day later. issuer is the CA's domain in CAA
// records, or empty if it names none.
func (e *IssuanceError) hold(issuer string) {
	e.State = stateAfter(e.Err, e.Stage)
	if !e.State.isHeld() {
		return
	}
	if e.State == StatePaused {
		e.UnpauseURL = unpauseURL(e.Err)
	}
	e.Err = &heldError{e.State, issuer, e.Err}
	e.RetryAt = pace.Later(e.RetryAt, e.Time.Add(holdFor()))
}

// describe adds the state of the host to an event.
func (e *IssuanceError) describe(ev *audit.Event) {
	if e.State.isHeld() {
		ev.State, ev.ExplanationURL = string(e.State), e.UnpauseURL
	}
}

// heldError says what to do about a paused or rejected host, before the CA's
// reason, which may be long.
type heldError struct {
	state  HostState
	issuer string // the CA's domain in CAA records, or empty
	cause  error
}

func (e *heldError) Error() string { return e.advice() + ": " + text.Of(e.cause) }

func (e *heldError) Unwrap() error { return e.cause }

// maxCAAIssuer is how much of a CA's domain an advice shows, in bytes.
const maxCAAIssuer = 64

func (e *heldError) advice() string {
	if e.state == StatePaused {
		return "the CA has paused this name; unpause it on the CA's page, then have it tried by Manager.Obtain, " +
			"or by taking it off the list and adding it again"
	}
	for _, p := range text.Problems(e.cause) {
		if isCAA(p) {
			record := "one for this CA, whose documentation has the value"
			if e.issuer != "" {
				record = "CAA 0 issue \"" + text.OneLine(e.issuer, maxCAAIssuer) + "\""
			}
			return "the domain's CAA records do not allow this CA; add " + record + ", then have the name tried by Manager.Obtain, " +
				"or by taking it off the list and adding it again"
		}
	}
	return "the CA does not certify this name; take it off the list, or use another CA"
}

// isCAA reports whether a problem is about the CAA records of the domain.
func isCAA(p *acme.Error) bool {
	if acmeclient.ProblemKind(p.ProblemType) == "caa" {
		return true
	}
	for _, sub := range p.Subproblems {
		if acmeclient.ProblemKind(sub.Type) == "caa" {
			return true
		}
	}
	return false
}
