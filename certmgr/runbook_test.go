package certmgr_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/audit"
)

// runbook returns docs/runbook.md and its headings as GitHub links to them.
func runbook(t *testing.T) (text string, anchors map[string]bool) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "docs", "runbook.md"))
	if err != nil {
		t.Fatal(err)
	}
	anchors = make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(data), -1) {
		anchors[strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")] = true
	}
	return string(data), anchors
}

// sentinels returns the exported variables of this package whose names say that they are errors.
func sentinels(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.VAR {
				continue
			}
			for _, spec := range group.Specs {
				for _, id := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(id.Name, "Err") {
						names = append(names, id.Name)
					}
				}
			}
		}
	}
	if len(names) < 10 {
		t.Fatalf("only %q are found", names)
	}
	return names
}

func TestRunbookHasASectionForEachError(t *testing.T) {
	text, anchors := runbook(t)
	for _, name := range sentinels(t) {
		if anchor := strings.ToLower(name); !anchors[anchor] {
			t.Errorf("%s has no section in docs/runbook.md", name)
		} else if !strings.Contains(text, "["+name+"](#"+anchor+")") {
			t.Errorf("%s is not in the table of errors in docs/runbook.md", name)
		}
	}
}

func TestRunbookHasEachKindOfEvent(t *testing.T) {
	text, anchors := runbook(t)
	for _, kind := range audit.Kinds() {
		switch name := string(kind); {
		case !(audit.Event{Kind: kind}).IsFailure():
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("%s is not in docs/runbook.md", name)
			}
		case !anchors[name]:
			t.Errorf("%s has no section in docs/runbook.md", name)
		case !strings.Contains(text, "["+name+"](#"+name+")"):
			t.Errorf("%s is not in the table of events in docs/runbook.md", name)
		}
	}
}

// inZip reports whether a path, relative to the root, is part of this module's zip, which leaves out nested modules.
func inZip(path string) bool {
	for _, nested := range []string{"certmgr/prommetrics", "examples"} {
		if path == nested || strings.HasPrefix(path, nested+"/") {
			return false
		}
	}
	return true
}

func TestRunbookLinksLeadSomewhere(t *testing.T) {
	text, anchors := runbook(t)
	// A module fetched by go get has no nested modules.
	_, err := os.Stat(filepath.Join("..", "examples", "go.mod"))
	checkout := err == nil
	for _, m := range regexp.MustCompile(`\]\(([^)]*)\)`).FindAllStringSubmatch(text, -1) {
		link := m[1]
		if anchor, ok := strings.CutPrefix(link, "#"); ok {
			if !anchors[anchor] {
				t.Errorf("docs/runbook.md links to %s, which is no heading of it", link)
			}
			continue
		}
		if strings.Contains(link, "://") {
			continue
		}
		path := filepath.Join("docs", filepath.FromSlash(link))
		if !checkout && !inZip(filepath.ToSlash(path)) {
			continue
		}
		if _, err := os.Stat(filepath.Join("..", path)); err != nil {
			t.Errorf("docs/runbook.md links to %s: %v", link, err)
		}
	}
}
