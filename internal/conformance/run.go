package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Run runs each case of the table as a parallel subtest of t.
//
// newCA returns the CA for a case, which does or does not require external
// account binding. It is called with the subtest's own T. It may return the
// same CA each time: cases share neither accounts nor names.
func Run(t *testing.T, newCA func(t *testing.T, binding bool) *CA) {
	t.Helper()
	for i, c := range table() {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			ca := newCA(t, c.bound)
			d := c.pebble
			if !ca.Pebble {
				d = nil
			}
			if d != nil && d.skip {
				t.Skipf("%s (%s): %s", c.rule, c.section, d.why)
			}
			for _, failure := range c.judge(t, ca, i, d) {
				t.Errorf("%s\nThe rule (%s): %s", failure, c.section, c.rule)
			}
		})
	}
}

// testCase is one rule of the protocol. Cases are made by refusal and success.
type testCase struct {
	rule    string // what the CA must do
	section string // of an RFC
	do      func(c *Client) Answer
	want    verdict // expected for the answer that do returns
	pebble  *deviation
	bound   bool // at a CA that requires a binding, by a client without an account
}

// verdict is how a CA answers a request.
type verdict struct {
	status  int
	problem string // the ACME error type without its prefix; empty for a success
}

func (v verdict) String() string { return strings.TrimSpace(fmt.Sprintf("%d %s", v.status, v.problem)) }

// deviation is how Pebble differs.
type deviation struct {
	verdict
	breaks []string // each complaint about its replies contains one of these; nil: there are none
	skip   bool     // the case cannot run on Pebble
	why    string   // section of the RFC, and who is right
}

// refusal returns a case of a request that the CA must refuse.
func refusal(rule, section string, status int, problem string, do func(c *Client) Answer) testCase {
	return testCase{rule: rule, section: section, want: verdict{status, problem}, do: do}
}

// success returns a case of a request that the CA must grant; do complains
// about mistakes in the answer.
func success(rule, section string, status int, do func(c *Client) Answer) testCase {
	return testCase{rule: rule, section: section, want: verdict{status, ""}, do: do}
}

// pebbleSays records another verdict of Pebble.
func (c testCase) pebbleSays(status int, problem, why string) testCase {
	c.pebble = &deviation{verdict: verdict{status, problem}, why: why}
	return c
}

// pebbleBreaks records that Pebble's reply breaks other rules: each complaint
// contains one of parts.
func (c testCase) pebbleBreaks(why string, parts ...string) testCase {
	if c.pebble == nil {
		c.pebble = &deviation{verdict: c.want}
	}
	d := *c.pebble
	d.breaks = parts
	d.why = strings.TrimSpace(d.why + " " + why)
	c.pebble = &d
	return c
}

// notOnPebble records that the case cannot run on Pebble.
func (c testCase) notOnPebble(why string) testCase {
	c.pebble = &deviation{skip: true, why: why}
	return c
}

// onBinding makes it a case for a CA that requires external account binding, by
// a client without an account.
func (c testCase) onBinding() testCase {
	c.bound = true
	return c
}

// judge runs the case and returns the mistakes of the CA.
func (c testCase) judge(t *testing.T, ca *CA, number int, d *deviation) (failures []string) {
	t.Helper()
	client := newClient(t, ca, number)
	if !c.bound {
		client.register()
	}
	a := c.do(client)
	want, breaks := c.want, []string(nil)
	if d != nil {
		want, breaks = d.verdict, d.breaks
		t.Logf("Pebble deviates: %s", d.why)
	}
	if got := (verdict{a.Status, a.Problem()}); got != want {
		failures = append(failures, "got "+got.String()+", want "+want.String()+"\n"+a.String())
	}
	met := make(map[string]bool)
	for _, complaint := range client.log.complaints {
		i := slices.IndexFunc(breaks, func(part string) bool { return strings.Contains(complaint, part) })
		if i < 0 {
			failures = append(failures, complaint)
		} else {
			met[breaks[i]] = true
		}
	}
	for _, part := range breaks {
		if !met[part] {
			failures = append(failures, "Pebble no longer breaks the rule: nothing says "+part)
		}
	}
	return failures
}
