package cases

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The test runs cases of every kind in a separate process, as some of them
// fail.
func TestTableSkipsKnownFailuresAndRefusesThoseThatPass(t *testing.T) {
	const inside = "NOSTALL_CASES_INSIDE"
	if os.Getenv(inside) != "" {
		runEveryKind(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), inside+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("the process passed, although cases in it fail")
	}
	for _, want := range []string{
		"SKIP: " + t.Name() + "/known_and_fatal ",
		"SKIP: " + t.Name() + "/known_and_failing ",
		"FAIL: " + t.Name() + "/known_and_passing ",
		"known and passing passes now: delete its line",
		"FAIL: " + t.Name() + "/new_and_fatal ",
		"FAIL: " + t.Name() + "/new_and_failing ",
		"PASS: " + t.Name() + "/good ",
		"PASS: " + t.Name() + "/parent ",
		"SKIP: " + t.Name() + "/parent/known ",
		"PASS: " + t.Name() + "/parent/good ",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no line %q", want)
		}
	}
	if strings.Contains(string(out), "went on") {
		t.Error("a case went on after Fatal")
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

func runEveryKind(t *testing.T) {
	tb := For("no package")
	for _, name := range []string{"known and fatal", "known and failing", "known and passing", "parent/known"} {
		tb.why[name] = "a reason"
	}
	fatal := func(t *T) {
		t.Bubble(func(t *T) { t.Fatal("bad") })
		t.Log("went on")
	}
	failing := func(t *T) { t.Bubble(func(t *T) { t.Errorf("bad") }) }
	good := func(t *T) { t.Bubble(func(t *T) { t.Log("good") }) }
	tb.Run(t, "known and fatal", fatal)
	tb.Run(t, "known and failing", failing)
	tb.Run(t, "known and passing", good)
	tb.Run(t, "new and fatal", fatal)
	tb.Run(t, "new and failing", failing)
	tb.Run(t, "good", good)
	tb.Run(t, "parent", func(t *T) {
		t.Run("known", failing)
		t.Run("good", good)
	})
}
