package certmgr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/flight"
)

// A server logs the error of each refused handshake. It is short, says which
// host was refused, why and until when, and wraps what says more.
func TestRefusalsAreBrief(t *testing.T) {
	at := time.Date(2026, 11, 27, 3, 4, 5, 0, time.UTC)
	failed := func(host string, cause error) *IssuanceError {
		return &IssuanceError{Host: host, Stage: audit.StageChallenge, CA: "https://ca.example/dir", Attempts: 3, RetryAt: at, Err: cause}
	}
	problem := func(detail string) error {
		return fmt.Errorf("tls-alpn-01: authorization is invalid: %w", errors.Join(
			&acme.Error{StatusCode: 400, ProblemType: "urn:ietf:params:acme:error:dns", Detail: "first"},
			&acme.Error{StatusCode: 403, ProblemType: "urn:ietf:params:acme:error:unauthorized", Detail: detail}))
	}
	const next = "; next attempt 2026-11-27T03:04:05Z"
	for _, host := range []string{"www.example.com", strings.Repeat("a", 60) + strings.Repeat(".b", 90) + ".example.org"} {
		for name, tt := range map[string]struct {
			err  error
			want []string
		}{
			"first failure": {failed(host, problem("no")), []string{"urn:ietf:params:acme:error:unauthorized (challenge, failure 3", next}},
			"backing off": {&refusal{kind: ErrBackoff, cause: failed(host, problem(strings.Repeat("x\n", 900)))},
				[]string{"certmgr: backing off: ", "urn:ietf:params:acme:error:unauthorized", next}},
			"no problem": {failed(host, errors.New("connection refused")), []string{"failed (challenge, failure 3 in a row): connection", next}},
			"CA": {&caRefusal{refusal{kind: ErrCAUnavailable, host: host, text: "x", cause: problem("busy\nvery")}, at},
				[]string{"certmgr: CA unavailable: ", "urn:ietf:params:acme:error:unauthorized: busy; very", next}},
			"no account": {&caRefusal{refusal{kind: ErrNoAccount, host: host, text: "x", cause: errors.New("Prompt is nil")}, at}, []string{"no account", "Prompt is nil", next}},
			"paced":      {&caRefusal{refusal{kind: ErrBusy, host: host, text: "20 new names"}, at}, []string{"20 new names", next}},
			"in flight":  {&refusal{kind: ErrInFlight, host: host, text: `ECDSA certificate at stage "order"`, since: at}, []string{`stage "order"`, " since 2026-11-27T03:04:05Z"}},
			"cache": {&refusal{kind: ErrCache, host: host, text: "reading \"" + host + "\"", cause: errors.New(strings.Repeat("disk ", 99))},
				[]string{"certmgr: cache failed: "}},
			"policy":      {&refusal{kind: ErrPolicy, host: host, text: "no answer within 5s", cause: context.DeadlineExceeded}, []string{"no answer within 5s: context"}},
			"not allowed": {&refusal{kind: ErrHostNotAllowed, host: host, text: strings.Repeat("reason ", 99)}, []string{"host not allowed: ", ": reason reason"}},
			"closed":      {&refusal{kind: ErrClosed, host: host}, []string{"manager closed: "}},
			"clock":       {failed(host, clockError(host, &certificate{}, at)), []string{"local clock is off: ", next}},
			"preflight":   {failed(host, &preflight.Error{Host: host}), []string{"failed (challenge", next}},
			"left":        {&flight.Left{Key: host, Cause: context.Canceled}, []string{"the handshake ended while waiting: context canceled"}},
			"odd":         {errors.Join(errors.New("a"), errors.New(strings.Repeat("b", 500))), []string{"a; bbb"}},
			"odd type":    {failed(host, &acme.Error{ProblemType: strings.Repeat("urn:", 99)}), []string{next}},
			"link":        {failed(host, problem("see https://ca.example/unpause?jwt="+strings.Repeat("eyJh", 200))), []string{next}},
			"nil":         {(*IssuanceError)(nil), nil},
		} {
			err := brief(tt.err)
			line := err.Error()
			if len(line) > maxBrief || strings.ContainsAny(line, "\n") || strings.Contains(line, "eyJh") || strings.Count(line, "certmgr") > 1 {
				t.Errorf("%s: %d bytes: %s", name, len(line), line)
			}
			for _, want := range tt.want {
				if !strings.Contains(line, want) {
					t.Errorf("%s: %s\ndoes not say %q", name, line, want)
				}
			}
			for _, part := range []string{host[:15], host[len(host)-11:]} {
				if !strings.Contains(line, part) && name != "odd" && name != "nil" {
					t.Errorf("%s: %s\ndoes not name the host (%s)", name, line, part)
				}
			}
			if !errors.Is(err, tt.err) || inFull(err) != tt.err {
				t.Errorf("%s: it does not wrap the error", name)
			}
		}
	}
}

// What scanners cause allocates no second error.
func TestShortRefusalsAreReturnedAsTheyAre(t *testing.T) {
	for _, err := range []error{
		nil,
		&refusal{kind: ErrNoServerName, text: "the client sent no SNI"},
		&refusal{kind: ErrHostNotAllowed, host: "www.example.org", text: "not on the list"},
	} {
		if brief(err) != err {
			t.Errorf("%v is wrapped", err)
		}
	}
}
