package guard

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A step of .ci/run whose tests fail ends the run, and so does one with the race
// detector, which asks whether they failed.
func TestFailedStepEndsTheRun(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("install bash")
	}
	text, err := os.ReadFile(filepath.Join("..", "..", ".ci", "run"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no .ci/run here")
	}
	functions, _, found := strings.Cut(string(text), "\nstate_before=")
	if err != nil || !found {
		t.Fatalf("the functions of .ci/run are not found, error %v", err)
	}
	for _, step := range []string{"count_tests go test work", "race"} {
		t.Run(step, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), ".ci", "run")
			if err := os.Mkdir(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			script := functions + "\ngo() { echo '--- FAIL: TestX'; return 1; }\nstep title " + step + "\necho passed\n"
			if err := os.WriteFile(name, []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), bash, name).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "TestX") || strings.Contains(string(out), "passed") {
				t.Errorf("error %v, output:\n%s", err, out)
			}
		})
	}
}
