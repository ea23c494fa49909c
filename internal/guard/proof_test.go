package guard

import (
	"errors"
	"go/ast"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// documents returns the Markdown files of the root, of docs and of the back ends of
// caches, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	root := filepath.Join("..", "..")
	texts := make(map[string]string)
	for _, pattern := range []string{"*.md", filepath.Join("docs", "*.md"), filepath.Join("certmgr", "cache", "*", "*.md")} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			rel, err := filepath.Rel(root, name)
			if err != nil {
				t.Fatal(err)
			}
			texts[filepath.ToSlash(rel)] = strings.ReplaceAll(string(content), "\r\n", "\n")
		}
	}
	return texts
}

// inAbsentModule reports whether the path lies in a nested module that is not
// here, as in the core module's zip.
func inAbsentModule(name string) bool {
	for _, module := range []string{"certmgr/cache/rediscache", "certmgr/cache/sqlcache", "certmgr/prommetrics", "examples", "internal/bench", "internal/integration", "tools"} {
		if name != module && !strings.HasPrefix(name, module+"/") {
			continue
		}
		_, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(module)))
		return errors.Is(err, fs.ErrNotExist)
	}
	return false
}

// provenBy is a test as a document names it: by the directory of its package
// and its name.
var provenBy = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Z]\\w*)`")

// A test that a document names exists in the package that the document names.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	declared := make(map[string]bool)
	for name, file := range parsedTests(t) {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				declared[path.Dir(name)+"."+f.Name.Name] = true
			}
		}
	}
	for name, text := range documents(t) {
		for _, m := range provenBy.FindAllStringSubmatch(text, -1) {
			if test := m[1] + "." + m[2]; !declared[test] && !inAbsentModule(m[1]) {
				t.Errorf("%s names %s, but there is no such test: say what it is called now, or what shows the same", name, test)
			}
		}
	}
}

// The threat model claims nothing that no test shows: each row of its tables
// whose last column is "shown by" names a test.
func TestThreatModelIsShownByTests(t *testing.T) {
	const name = "docs/threat-model.md"
	rows, shown := 0, false
	for line := range strings.SplitSeq(documents(t)[name], "\n") {
		if !strings.HasPrefix(line, "|") {
			shown = false
			continue
		}
		cells := splitCells(line)
		last := cells[len(cells)-1]
		switch {
		case last == "shown by":
			shown = true
		case shown && strings.Trim(last, "-: ") != "":
			if rows++; !provenBy.MatchString(last) {
				t.Errorf("%s: no test shows this:\n\t%s", name, line)
			}
		}
	}
	if rows < 30 {
		t.Errorf("%s has only %d rows in tables whose last column is \"shown by\"", name, rows)
	}
}

var relativeLink = regexp.MustCompile(`\]\(([^):#?]+)(#[^)]*)?\)`)

// A relative link in a document leads to a file of the repository.
func TestDocumentsLinkToFilesThatExist(t *testing.T) {
	for name, text := range documents(t) {
		for _, m := range relativeLink.FindAllStringSubmatch(text, -1) {
			linked := path.Join(path.Dir(name), m[1])
			if inAbsentModule(linked) {
				continue
			}
			if _, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(linked))); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
		}
	}
}

// Who looks for the security policy finds it.
func TestSecurityIsLinked(t *testing.T) {
	texts := documents(t)
	for name, links := range map[string][]string{
		"README.md":            {"SECURITY.md", "docs/threat-model.md"},
		"CONTRIBUTING.md":      {"SECURITY.md"},
		"SECURITY.md":          {"docs/threat-model.md"},
		"docs/threat-model.md": {"../SECURITY.md", "architecture.md"},
		"docs/architecture.md": {"threat-model.md"},
	} {
		var linked []string
		for _, m := range relativeLink.FindAllStringSubmatch(texts[name], -1) {
			linked = append(linked, m[1])
		}
		for _, link := range links {
			if !slices.Contains(linked, link) {
				t.Errorf("%s does not link to %s", name, link)
			}
		}
	}
}

// headingLink is a link to a heading, in this document or in another one.
var headingLink = regexp.MustCompile(`\]\(((?:[^():#?]+\.md)?)#([^)]+)\)`)

// A link to a heading of a document, such as one in a table of contents, leads
// to a heading that exists.
func TestDocumentsLinkToHeadingsThatExist(t *testing.T) {
	texts := documents(t)
	anchors := make(map[string]bool) // "README.md#errors"
	for name, text := range texts {
		for line := range strings.SplitSeq(text, "\n") {
			if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
				anchors[name+"#"+anchor(heading)] = true
			}
		}
	}
	for name, text := range texts {
		for _, m := range headingLink.FindAllStringSubmatch(text, -1) {
			linked := name
			if m[1] != "" {
				linked = path.Join(path.Dir(name), m[1])
			}
			if _, ok := texts[linked]; ok && !anchors[linked+"#"+m[2]] {
				t.Errorf("%s links to %s#%s, which is no heading", name, m[1], m[2])
			}
		}
	}
}

// anchor returns a heading's name in links, as GitHub makes it.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}
