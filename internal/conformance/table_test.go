package conformance

import (
	"regexp"
	"strings"
	"testing"
)

var (
	sectionForm = regexp.MustCompile(`^(RFC \d+|draft-ietf-acme-[a-z]+|Baseline Requirements), sections? \d`)
	judgement   = regexp.MustCompile(`(is|are) right|both may|be either`)
)

func TestEveryCaseNamesItsRule(t *testing.T) {
	rules := make(map[string]bool)
	for _, c := range table() {
		if c.rule == "" || rules[c.rule] {
			t.Errorf("the rule %q is empty or occurs twice", c.rule)
		}
		rules[c.rule] = true
		if !sectionForm.MatchString(c.section) {
			t.Errorf("%s: the section is %q", c.rule, c.section)
		}
		if (c.want.status >= 400) != (c.want.problem != "") {
			t.Errorf("%s: the verdict is %v", c.rule, c.want)
		}
	}
}

// Where Pebble differs, the reason names the section and says who is right.
func TestEveryDeviationIsJudged(t *testing.T) {
	for _, c := range table() {
		d := c.pebble
		if d == nil {
			continue
		}
		if !sectionForm.MatchString(d.why) || !judgement.MatchString(strings.ToLower(d.why)) {
			t.Errorf("%s: Pebble differs because %q", c.rule, d.why)
		}
		if !d.skip && d.verdict == c.want && d.breaks == nil {
			t.Errorf("%s: Pebble differs in nothing", c.rule)
		}
	}
}

func TestSizeOfTheTable(t *testing.T) {
	var refusals, successes, deviations int
	for _, c := range table() {
		if c.want.problem == "" {
			successes++
		} else {
			refusals++
		}
		if c.pebble != nil {
			deviations++
		}
	}
	t.Logf("%d refusals, %d successes; Pebble differs in %d", refusals, successes, deviations)
	if refusals < 100 || successes < 30 {
		t.Errorf("%d refusals and %d successes are too few", refusals, successes)
	}
}
