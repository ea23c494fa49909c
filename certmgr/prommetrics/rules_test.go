package prommetrics

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// promtool runs Prometheus' own checker and returns its output.
func promtool(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		const hint = "promtool is not installed. On Debian run: apt-get install -y prometheus"
		if os.Getenv("NOSTALL_REQUIRE_SERVICES") == "1" {
			t.Fatal(hint)
		}
		t.Skip(hint)
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	return string(out), err
}

func TestAlertRulesAreValid(t *testing.T) {
	if out, err := promtool(t, "check", "rules", "alerts.yml"); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
}

func TestAlertRules(t *testing.T) {
	if out, err := promtool(t, "test", "rules", "alerts_test.yml"); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, out)
	}
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// alertRules returns the text of each rule of alerts.yml by its name.
func alertRules(t *testing.T) map[string]string {
	t.Helper()
	rules := make(map[string]string)
	for _, rule := range strings.Split(readFile(t, "alerts.yml"), "- alert: ")[1:] {
		name, text, _ := strings.Cut(rule, "\n")
		rules[name] = text
	}
	if len(rules) == 0 {
		t.Fatal("alerts.yml has no rule")
	}
	return rules
}

func TestEachAlertSaysWhatToDo(t *testing.T) {
	if _, err := os.Stat(filepath.Join("..", "..", "docs", "runbook.md")); os.IsNotExist(err) {
		t.Skip("the runbook is part of the core module, and this one is not in a checkout")
	}
	var headings []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(readFile(t, "..", "..", "docs", "runbook.md"), -1) {
		headings = append(headings, strings.ToLower(strings.TrimSpace(m[1])))
	}
	for name, rule := range alertRules(t) {
		anchor := strings.ToLower(name)
		if !slices.Contains(headings, anchor) {
			t.Errorf("%s has no section in docs/runbook.md: add one with the heading %q", name, name)
		}
		for _, want := range []string{
			"runbook_url: https://github.com/nostall/nostall/blob/main/docs/runbook.md#" + anchor + "\n",
			"summary: ", "description: ",
		} {
			if !strings.Contains(rule, want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
		if !regexp.MustCompile(`severity: (warning|critical)\n`).MatchString(rule) {
			t.Errorf("%s has no severity, or another than warning and critical", name)
		}
	}
}

// Each alert fires when it should, and neither too soon nor without cause.
func TestEachAlertIsTested(t *testing.T) {
	tests := readFile(t, "alerts_test.yml")
	for name := range alertRules(t) {
		expr := regexp.QuoteMeta(`expr: ALERTS{alertname="`+name+`",alertstate="firing"}`) + `\n +eval_time: \S+\n +exp_samples:`
		for what, expected := range map[string]string{"raised": `\n +- labels:`, "not raised": ` \[\]\n`} {
			if !regexp.MustCompile(expr + expected).MatchString(tests) {
				t.Errorf("alerts_test.yml does not test when %s is %s", name, what)
			}
		}
	}
}

var (
	metricName   = regexp.MustCompile(`\bcertmgr_[a-z_]+`)
	labelMatcher = regexp.MustCompile(`\b(result|stage|state|endpoint|kind)(?:=|=~|!=|!~)"([^"]*)"`)
)

// checkExpressions reports metrics and label values that the collector does not
// export: such an expression is valid, but never true.
func checkExpressions(t *testing.T, where, text string) {
	t.Helper()
	exposition := readFile(t, "testdata", "metrics.txt")
	known := metricNames(t)
	for _, name := range metricName.FindAllString(text, -1) {
		if slices.Contains(known, name) {
			continue
		}
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if !strings.Contains(exposition, "# TYPE "+base+" histogram\n") {
			t.Errorf("%s uses %s, which the collector does not export", where, name)
		}
	}
	for _, m := range labelMatcher.FindAllStringSubmatch(text, -1) {
		for _, value := range strings.Split(m[2], "|") {
			if pair := m[1] + `="` + value + `"`; !strings.Contains(exposition, pair) {
				t.Errorf("%s uses %s, which the collector does not export", where, pair)
			}
		}
	}
}

func TestAlertsUseWhatIsExported(t *testing.T) {
	for name, rule := range alertRules(t) {
		checkExpressions(t, name, rule)
	}
	checkExpressions(t, "alerts_test.yml", readFile(t, "alerts_test.yml"))
}
