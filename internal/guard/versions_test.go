package guard

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The releases of Go that README.md calls supported are those of the hosted CI,
// and go.mod requires the older one.
func TestSupportedGoVersionsAgree(t *testing.T) {
	m := regexp.MustCompile(`two newest releases of Go are supported[^:]*:\s+now\s+(1\.\d+) and (1\.\d+)\.`).
		FindStringSubmatch(documents(t)["README.md"])
	if m == nil {
		t.Fatal("README.md does not say which two releases of Go are supported")
	}
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil || !strings.Contains(string(mod), "\ngo "+m[1]+".") {
		t.Errorf("go.mod does not require Go %s, error %v", m[1], err)
	}
	ci, err := os.ReadFile(filepath.Join("..", "..", ".github", "workflows", "ci.yml"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no hosted CI here")
	}
	for _, want := range []string{`go: ["` + m[1] + `", "` + m[2] + `"]`, "- run: bash .ci/run\n"} {
		if err != nil || !strings.Contains(string(ci), want) {
			t.Errorf("ci.yml does not contain %s, error %v", want, err)
		}
	}
}
