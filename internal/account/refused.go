package account

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
)

// Refused returns err, with which a request signed by acc failed. If the CA has
// refused the account and not this request, the error says what to do, is
// marked as unavailable, and acc is dropped: the next call of Get finds out
// whether the CA knows it. about is what the request was for: a refusal that
// names it is not about the account.
func (r *Registrar) Refused(ctx context.Context, acc *Account, about string, err error) error {
	p, kind := refusalOf(err)
	if p == nil || IsUnavailable(err) {
		return err
	}
	var what string
	switch {
	case kind == "useractionrequired":
		return unavailableFor(actionRequired(p), err)
	case kind == "externalaccountrequired":
		return unavailableFor(r.blame.binding(), err)
	case about != "" && strings.Contains(wordsOf(p), strings.ToLower(about)):
		return err
	case kind == "accountdoesnotexist", saysUnusable(p):
		what = r.blame.account()
	case kind == "unauthorized":
		// CAs use it for names, too.
		lookUp := r.lookUpStatus(ctx, acc)
		if lookUp == nil {
			return err
		}
		if IsUnavailable(lookUp) {
			return lookUp
		}
		what, err = r.blame.account(), fmt.Errorf("%w; %w", err, lookUp)
	default:
		return err
	}
	r.known.giveUp(acc)
	return unavailableFor(what, fmt.Errorf("account %s: %w", acc.URL, err))
}

// lookUpStatus asks the CA for the account. The error says that the CA does not
// let it be used; it is nil if that is unknown.
func (r *Registrar) lookUpStatus(ctx context.Context, acc *Account) error {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	// An update that changes nothing: GetReg would ask for the key.
	found, err := r.client(acc).UpdateReg(ctx, new(acme.Account))
	if err == nil {
		if s := found.Status; s != "" && s != acme.StatusValid {
			return fmt.Errorf("its status is %s", quote(s))
		}
		return nil
	}
	err = fmt.Errorf("looking up the account: %w", acmeclient.Cause(err))
	switch p, kind := refusalOf(err); kind {
	case "useractionrequired":
		return unavailableFor(actionRequired(p), err)
	case "unauthorized", "accountdoesnotexist":
		return err
	}
	return nil
}

// actionRequired says what a CA wants that has refused a request with
// userActionRequired (RFC 8555, section 7.3.3).
func actionRequired(p *acme.Error) string {
	what := "the CA waits for an action of yours"
	terms := linked(p.Header, "terms-of-service")
	if terms != "" || termsWords.MatchString(wordsOf(p)) {
		what = "the CA's terms of service have changed"
	}
	switch {
	case p.Instance != "":
		what += ": visit " + p.Instance
		if terms != "" && terms != p.Instance {
			what += " (the terms are at " + terms + ")"
		}
	case terms != "":
		what += ": agree to those at " + terms
	default:
		what += ": it does not say where, look at its website"
	}
	return what
}

// linked returns the target of the first Link with this relation, or "".
func linked(h http.Header, relation string) string {
	for _, field := range h.Values("Link") {
		for _, link := range strings.Split(field, ",") {
			target, params, _ := strings.Cut(strings.TrimSpace(link), ">")
			if url, ok := strings.CutPrefix(target, "<"); ok && relationOf(params) == relation {
				return url
			}
		}
	}
	return ""
}

func relationOf(params string) string {
	for _, param := range strings.Split(params, ";") {
		if name, value, _ := strings.Cut(strings.TrimSpace(param), "="); strings.EqualFold(name, "rel") {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// saysUnusable reports whether a problem says that the account cannot be used.
// No field says so, and the types differ: Boulder sends unauthorized, and the
// status in the text.
func saysUnusable(p *acme.Error) bool { return unusableWords.MatchString(wordsOf(p)) }

var unusableWords = regexp.MustCompile(`\baccount\b[^.;,]{0,60}\b` + unusable + `|` + unusable + `\s+account\b`)

const unusable = `(deactivated|deleted|revoked|suspended|disabled|blocked|banned|terminated|closed|inactive|not (active|valid|found|exist)|unknown)\b`

// refusalOf returns the CA's refusal of a request that failed with err and the
// kind of its problem, in lower case. It returns nil for other failures, such as
// those that an order or a challenge reports, for rate limits, and for what
// proxies say.
func refusalOf(err error) (p *acme.Error, kind string) {
	problem, ok := acmeclient.Refusal(err)
	if !ok || !isRefusal(problem) {
		return nil, ""
	}
	if kind = acmeclient.ProblemKind(problem.ProblemType); kind == "" {
		return nil, ""
	}
	return problem, kind
}

// wordsOf returns the text of a problem in lower case.
func wordsOf(p *acme.Error) string {
	words := p.Detail
	for _, sub := range p.Subproblems {
		words += "; " + sub.Detail
	}
	return strings.ToLower(words)
}
