package certmgr

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/account"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/order"
	"github.com/nostall/nostall/internal/text"
)

// trouble is what a failed attempt says about the CA. Later values are more
// severe.
type trouble uint8

const (
	troubleNone  trouble = iota // nothing: the CA was not contacted and is not to blame
	troubleHost                 // it works; the failure is the host's
	troubleLimit                // it works, and rate-limits this host
	troubleOwn                  // the CA failed for this host: 5xx, no answer
	troubleCA                   // the CA, or the account with it, fails for all hosts
	troubleLocal                // there is no account, for a reason other than the CA
)

// troubleOf says what a failure at a stage means for the CA.
func troubleOf(trace *acmeclient.Trace, stage audit.Stage, host string, err error) trouble {
	switch {
	case err == nil:
		return troubleHost
	case stage == audit.StagePreflight, errors.Is(err, ErrKeySource):
		return troubleNone // the CA was not contacted, or is not to blame
	case account.IsUnavailable(err):
		return troubleLocal
	case stage == audit.StageAccount || trace.Failed() == acmeclient.EndpointDirectory || trace.Failed() == acmeclient.EndpointNewNonce:
		return troubleCA
	case trace.Requests() == 0:
		return troubleNone
	}
	problems := text.Problems(err)
	if len(problems) == 0 {
		return troubleOfLoss(trace, err)
	}
	worst := troubleHost
	for _, p := range problems {
		worst = max(worst, troubleOfProblem(p, host))
	}
	return worst
}

// troubleOfLoss is troubleOf without a problem document: if there was no reply,
// or an unusable one, that is the CA's failure. A request that was merely under
// way when the attempt's time was over says nothing.
func troubleOfLoss(trace *acmeclient.Trace, err error) trouble {
	lost := requestErrors(err)
	for _, e := range lost {
		if e.Timeout > 0 || !errors.Is(e, context.DeadlineExceeded) {
			return troubleOwn
		}
	}
	if len(lost) == 0 && trace.Failed() != acmeclient.EndpointNone && !errors.Is(err, context.DeadlineExceeded) {
		return troubleOwn
	}
	return troubleHost
}

// requestErrors returns the requests without a usable response that err is
// about.
func requestErrors(err error) []*acmeclient.RequestError {
	switch e := err.(type) {
	case *acmeclient.RequestError:
		return []*acmeclient.RequestError{e}
	case interface{ Unwrap() error }:
		return requestErrors(e.Unwrap())
	case interface{ Unwrap() []error }:
		var all []*acmeclient.RequestError
		for _, cause := range e.Unwrap() {
			all = append(all, requestErrors(cause)...)
		}
		return all
	}
	return nil
}

func troubleOfProblem(p *acme.Error, host string) trouble {
	switch {
	case acmeclient.IsPause(p):
		return troubleHost // as many hosts as there are may be paused
	case acmeclient.IsRateLimited(p) && isAccountWide(p, host):
		return troubleCA
	case acmeclient.IsRateLimited(p):
		return troubleLimit
	case p.StatusCode >= http.StatusInternalServerError:
		return troubleOwn
	}
	return troubleHost
}

// isAccountWide reports whether a rate limit is the account's and not a name's.
// No field of the problem says so; CAs name in its text what was counted.
func isAccountWide(e *acme.Error, host string) bool {
	text := strings.ToLower(e.Detail)
	return strings.Contains(text, "account") && !strings.Contains(text, host) && !strings.Contains(text, hosts.RegisteredDomain(host))
}

// retryAfter returns the longest wait that the CA asked for in err, which
// acmeclient and order have bounded, or zero.
func retryAfter(err error) time.Duration {
	var longest time.Duration
	if wait, ok := errors.AsType[*order.WaitError](err); ok {
		longest = wait.Wait()
	}
	for _, p := range text.Problems(err) {
		if p.Header != nil {
			d, _ := acmeclient.RetryAfter(p.Header, time.Now())
			longest = max(longest, d)
		}
	}
	return longest
}
