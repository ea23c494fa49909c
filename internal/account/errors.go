package account

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/text"
)

const acmeProblem = "urn:ietf:params:acme:error:"

// ErrNoAccount: there is no account for a reason that is not the CA's fault.
var ErrNoAccount = errors.New("certmgr: no account")

// unavailable marks the cause of a missing account that is not the CA's fault: a
// setting, the key, the store, the terms of service, the state of the account.
// It is an ErrNoAccount.
type unavailable struct {
	err    error
	reason string // without the CA's words; empty means that it is all of err
}

// unavailableFor returns the error of an account that is unavailable for a
// reason, which the CA told by err.
func unavailableFor(reason string, err error) error {
	return unavailable{err: fmt.Errorf("%s: %w", reason, err), reason: reason}
}

// Recorded returns an error that was recorded earlier, as one for which
// IsUnavailable holds.
func Recorded(err error) error { return unavailable{err: err} }

// Reason returns the reason why there is no account, if IsUnavailable(err). The
// same reason has the same text, whatever request the CA has refused.
func Reason(err error) string {
	u, ok := errors.AsType[unavailable](err)
	if ok && u.reason != "" {
		return u.reason
	}
	return text.Of(err)
}

func (e unavailable) Error() string { return e.err.Error() }
func (e unavailable) Unwrap() error { return e.err }

// Is makes errors.Is report an ErrNoAccount, whose text would say nothing more.
func (e unavailable) Is(target error) bool { return target == ErrNoAccount }

// IsUnavailable reports whether err says that there is no account for a reason
// that is not the CA's fault: a setting is wrong, the key cannot be read or
// saved, the terms of service were not accepted, or the CA refuses this account.
// Other users' accounts at the CA may work.
func IsUnavailable(err error) bool {
	_, ok := errors.AsType[unavailable](err)
	return ok
}

// IsGone reports whether the CA refused a request with err because it does not
// know the account that signed it, or no longer does.
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

// refusesSigner reports whether a request may have been refused because of its
// signature, for which CAs use different problem types.
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

// refusedForGood reports whether a change of the key that failed with err was
// not made and never will be: every request for it got a reply, and the last
// reply is the CA's own refusal. Proxies refuse in other words, and may have
// passed the request on. A problem that asks for a retry, such as a rate limit,
// proves nothing.
func refusedForGood(trace *acmeclient.Trace, err error) bool {
	problem, ok := acmeclient.Problem(err)
	if !ok || trace.Unanswered() || !isRefusal(err) {
		return false
	}
	kind, ok := strings.CutPrefix(problem.ProblemType, acmeProblem)
	return ok && kind != "badNonce" && kind != "rateLimited" && kind != "serverInternal"
}

// isRefusal reports whether err is a CA's refusal of this request, rather than
// a temporary condition or the reply of a proxy.
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
