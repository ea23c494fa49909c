package guard

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// notOurs holds names in code font in docs/architecture.md that the code does
// not declare, with what they are.
var notOurs = map[string]string{
	"badNonce": "an error of RFC 8555",
	"Goexit":   "of package runtime",
	"internal": "a directory",
	"layers":   "a table in the tests here",
	"runtime":  "of the standard library",
}

// quotedName is a name in code font: "gate.permit", "closeGrace".
var quotedName = regexp.MustCompile("`([A-Za-z]\\w*(?:\\.\\w+)*)`")

// The code declares every name in code font in the document: a function renamed
// in the code must be renamed there too.
func TestArchitectureNamesWhatExists(t *testing.T) {
	content, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	declared := make(map[string]bool)
	for _, p := range corePackages(t) {
		declared[p.Types.Name()] = true
		for id := range p.Info.Defs {
			declared[id.Name] = true
		}
	}
	missing := make(map[string]string)
	for _, match := range quotedName.FindAllStringSubmatch(string(content), -1) {
		for part := range strings.SplitSeq(match[1], ".") {
			if _, ok := notOurs[part]; !ok && !declared[part] {
				missing[match[1]] = part
			}
		}
	}
	for _, name := range sortedKeys(missing) {
		t.Errorf("docs/architecture.md names %s, but nothing in the core module is called %s: say what it is called now",
			name, missing[name])
	}
}
