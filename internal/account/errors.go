package account

import (
	"errors"
	"net/http"
	"strings"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/text"
)

const acmeProblem = "urn:ietf:params:acme:error:"

// unavailable marks the cause of a missing account that is not the CA's fault: the key,
// the store, the terms of service.
type unavailable struct{ err error }

func (e unavailable) Error() string { return e.err.Error() }
func (e unavailable) Unwrap() error { return e.err }

// IsUnavailable reports whether err says that there is no account for a reason that is
// not the CA's fault: its key cannot be read or saved, or nobody accepted the terms of
// service. The CA was not asked in vain, and others may well use it.
func IsUnavailable(err error) bool {
	_, ok := errors.AsType[unavailable](err)
	return ok
}

// IsGone reports whether the CA refused a request with err because it does not know
// the account that signed it, or no longer knows it.
func IsGone(err error) bool {
	e, ok := errors.AsType[*acme.Error](err)
	return ok && e.ProblemType == acmeProblem+"accountDoesNotExist"
}

func alreadyExists(err error) bool {
	if errors.Is(err, acme.ErrAccountAlreadyExists) {
		return true
	}
	e, ok := errors.AsType[*acme.Error](err)
	return ok && e.StatusCode == http.StatusConflict
}

// refusesSigner reports whether a request may have been refused for its
// signature: CAs say so in different ways.
func refusesSigner(err error) bool {
	problems := text.Problems(err)
	if len(problems) == 0 {
		return false
	}
	switch strings.TrimPrefix(problems[len(problems)-1].ProblemType, acmeProblem) {
	case "malformed", "unauthorized", "accountDoesNotExist", "badSignatureAlgorithm", "badPublicKey":
		return true
	}
	return false
}

// refusedForGood reports whether a change of the key that failed with err was not
// made and never will be: nothing that was sent for it is without an answer, and the
// answer is the CA's own. Proxies refuse in other words, and may have let the request
// through. A problem that asks for another try, such as a rate limit, says nothing.
func refusedForGood(trace *acmeclient.Trace, err error) bool {
	problem, ok := acmeclient.Problem(err)
	if !ok || trace.Unanswered() || !isRefusal(err) {
		return false
	}
	kind, ok := strings.CutPrefix(problem.ProblemType, acmeProblem)
	return ok && kind != "badNonce" && kind != "rateLimited" && kind != "serverInternal"
}

// isRefusal reports whether err is an answer by which a CA refuses the request, and
// not the client or the moment, and by which nothing in between refuses it.
func isRefusal(err error) bool {
	problem, ok := acmeclient.Problem(err)
	if !ok || acmeclient.IsRateLimited(err) {
		return false
	}
	switch problem.StatusCode {
	case http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly:
		return false
	}
	return problem.StatusCode >= 400 && problem.StatusCode <= 499
}
