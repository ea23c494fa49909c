package certmgr

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/text"
)

func TestOneLineKeepsAnyBound(t *testing.T) {
	texts := []string{"", "a", "abcd", strings.Repeat("a", 5000), strings.Repeat("€", 400), strings.Repeat("\n\x00\xff", 400), "\u202e\u202e"}
	for _, line := range texts {
		for _, bound := range []int{math.MinInt / 2, -1000, -1, 0, 1, 2, 3, 4, 5, 6, 7, 100, text.MaxError, math.MaxInt} {
			for name, got := range map[string]string{
				"OneLine":  text.OneLine(line, bound),
				"WithTail": text.WithTail(line, "; next attempt 2026-11-22T03:04:05Z", bound),
				"issuance": (&IssuanceError{Host: line, CA: line, Attempts: 2, RetryAt: time.Now(), Err: errors.New(line)}).text(bound),
			} {
				if len(got) > max(bound, 0) || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\x00") {
					t.Errorf("%s(%.10q, %d) = %.50q of %d bytes", name, line, bound, got, len(got))
				}
			}
		}
	}
	if got := text.WithTail(strings.Repeat("a", 100), "; later", 20); got != "aaaaaaaaaa...; later" {
		t.Errorf("WithTail = %q, want the tail whole", got)
	}
}

// rudeError is a user's error whose Error method panics.
type rudeError struct{ text *string }

func (e *rudeError) Error() string { return *e.text }

// Logging an error must not panic, whatever is missing or too long in it.
func TestErrorTextsNeverPanic(t *testing.T) {
	long := strings.Repeat("r", 5000)
	issuance := &IssuanceError{Host: "a.example.com", Err: errors.New(long), RetryAt: time.Now()}
	causes := map[string]error{
		"none": nil, "zero": new(IssuanceError), "nil pointer": (*IssuanceError)(nil), "long": issuance, "preflight": new(preflight.Error),
		"nil preflight": (*preflight.Error)(nil), "nil problem": (*acme.Error)(nil), "panics": new(rudeError), "joined": errors.Join(new(rudeError), issuance),
		"findings": &preflight.Error{Host: long, Addrs: make([]netip.Addr, 20), Findings: make([]preflight.Finding, 20), ClockSkew: -1 << 63},
		"addrs":    &preflight.Error{Undecided: true, Err: new(rudeError)},
	}
	for name, cause := range causes {
		t.Run(name, func(t *testing.T) {
			errs := []error{
				&IssuanceError{Err: cause}, &IssuanceError{Host: long, CA: long, Attempts: math.MaxInt, RetryAt: time.Now(), Err: cause},
				&refusal{kind: ErrBackoff, cause: cause}, &refusal{kind: ErrBackoff, host: long, text: long, since: time.Now(), cause: cause},
				&operatorError{what: long, causes: []error{cause}}, &diagnosis{cause, new(preflight.Error)},
				&diagnosis{errors.New(long), &preflight.Error{Host: long}},
			}
			for _, err := range errs {
				if line := err.Error(); len(line) > text.MaxError || strings.Contains(line, "\n") {
					t.Errorf("%T: %d bytes: %.100q", err, len(line), line)
				}
				errors.Is(err, ErrCacheMiss)
				e := audit.Event{Err: err, NotAfter: time.Unix(1<<40, 0)}
				if line, err := json.Marshal(e); err != nil || len(e.String()) == 0 || len(line) == 0 {
					t.Errorf("the forms of an event: %v", err)
				}
			}
			if line := fmt.Sprint(audit.Event{Err: cause}); strings.Contains(line, "PANIC=String") {
				t.Errorf("the text of an event: %s", line)
			}
			newFailureRecord(newSubject(bundle.ECDSA, "ca", "a.example.com"), &failure{err: &IssuanceError{Err: cause}})
		})
	}
	for _, line := range []string{(*IssuanceError)(nil).Error(), (*preflight.Error)(nil).Error(), new(preflight.Error).Error(), audit.Event{}.String(),
		preflight.Mode(99).String(), audit.Event{}.LogValue().String()} {
		if line == "" {
			t.Error("a zero value has no text")
		}
	}
}

// An operator's long reason for taking a host off the list leaves room for a cause.
func TestLongReasonLeavesRoomForTheCause(t *testing.T) {
	r := &refusal{kind: ErrHostNotAllowed, host: "a.example.com", text: strings.Repeat("r", 2000),
		cause: &IssuanceError{Host: "tenant.example.net", Stage: audit.StageOrder, Err: errors.New("no"), RetryAt: time.Now()}}
	if line := r.Error(); !strings.Contains(line, "tenant.example.net: order failed at : no; ") || !strings.Contains(line, "; next attempt ") || len(line) > text.MaxError {
		t.Errorf("the cause is missing: %q", line)
	}
}
