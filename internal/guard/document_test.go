package guard

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// architecture is the document with the tables.
var architecture = filepath.Join("..", "..", "docs", "architecture.md")

// An entry is the generated part of a row of a table in the document. The rest
// of the row is written by hand.
type entry struct {
	name string // unique in its package
	pkg  string
	rest []string // cells
}

func (e entry) cells() string {
	return "| " + strings.Join(append([]string{"`" + e.name + "`", "`" + e.pkg + "`"}, e.rest...), " | ") + " |"
}

// A docTable is a table with a row for each entry of some kind in the code. It
// follows the comment <!-- name --> and ends with an empty line.
type docTable struct {
	name    string
	entries []entry
	columns int // written by hand
}

// check compares the table in the document with the code. With -update it
// rewrites the rows and keeps the text written by hand, even if an entry has
// moved to another package.
func (d docTable) check(t *testing.T) {
	t.Helper()
	if *update {
		d.write(t)
	}
	_, rows, _ := d.split(t)
	left := make(map[string]bool)
	for _, row := range rows {
		left[row] = true
	}
	for _, e := range d.entries {
		row, ok := find(rows, e.cells())
		if !ok {
			t.Errorf("the table of %s in docs/architecture.md has no row that begins with\n\t%s\n%s", d.name, e.cells(), d.advice())
			continue
		}
		delete(left, row)
		if slices.Contains(d.written(row, e), "") {
			t.Errorf("the table of %s in docs/architecture.md does not say all about\n\t%s", d.name, e.cells())
		}
	}
	for _, row := range sortedKeys(left) {
		t.Errorf("the table of %s in docs/architecture.md has a row for what is not in the code:\n\t%s\n%s", d.name, row, d.advice())
	}
}

func (d docTable) advice() string {
	return "Run\n\tgo test ./internal/guard -run TestArchitecture -update\nand fill in what that leaves empty."
}

// written returns the hand-written cells of a row.
func (d docTable) written(row string, e entry) []string {
	cells := make([]string, d.columns)
	for i, c := range splitCells(strings.TrimPrefix(row, e.cells())) {
		if i < d.columns {
			cells[i] = c
		}
	}
	return cells
}

// splitCells returns the cells of a row or of the end of one.
func splitCells(row string) []string {
	var cells []string
	for c := range strings.SplitSeq(strings.Trim(strings.TrimSpace(row), "|"), "|") {
		cells = append(cells, strings.TrimSpace(c))
	}
	return cells
}

func find(rows []string, prefix string) (string, bool) {
	i := slices.IndexFunc(rows, func(row string) bool { return strings.HasPrefix(row, prefix) })
	if i < 0 {
		return "", false
	}
	return rows[i], true
}

// split returns the document up to the first row of the table, the rows, and
// the rest.
func (d docTable) split(t *testing.T) (before string, rows []string, after string) {
	t.Helper()
	content, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
	head, tail, ok := strings.Cut(string(content), "<!-- "+d.name+" -->\n")
	lines := strings.SplitAfter(tail, "\n")
	if !ok || len(lines) < 3 {
		t.Fatalf("docs/architecture.md has no table after <!-- %s -->", d.name)
	}
	before = head + "<!-- " + d.name + " -->\n" + lines[0] + lines[1]
	end := 2
	for end < len(lines) && strings.HasPrefix(lines[end], "|") {
		rows = append(rows, strings.TrimSpace(lines[end]))
		end++
	}
	return before, rows, strings.Join(lines[end:], "")
}

func (d docTable) write(t *testing.T) {
	t.Helper()
	before, rows, after := d.split(t)
	for _, e := range d.entries {
		before += e.cells() + " " + strings.Join(d.old(rows, e), " | ") + " |\n"
	}
	if err := os.WriteFile(architecture, []byte(before+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// old returns the hand-written text about e, or about an entry of the same name
// in another package.
func (d docTable) old(rows []string, e entry) []string {
	row, ok := find(rows, "| `"+e.name+"` | `"+e.pkg+"` |")
	if !ok {
		row, ok = find(rows, "| `"+e.name+"` |")
	}
	if !ok {
		return make([]string, d.columns)
	}
	cells := splitCells(row)
	return cells[max(0, len(cells)-d.columns):]
}

// inProduction reports whether the tables cover the package: whether it is part
// of users' programs.
func inProduction(pkg string) bool {
	for _, not := range []string{"certmgr/acmetest", "certmgr/cache/cachetest", "internal/cases", "internal/conformance", "internal/guard", "internal/servertest", "internal/sim"} {
		if in(pkg, not) {
			return false
		}
	}
	return true
}

// The document describes each package in a paragraph.
func TestArchitectureTellsOfEachPackage(t *testing.T) {
	content, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range corePackages(t) {
		if start := fmt.Sprintf("\n**`%s`**", short(p.Path)); !bytes.Contains(content, []byte(start)) {
			t.Errorf("docs/architecture.md has no paragraph that begins with %s: say what the package is for and what it may know",
				strings.TrimSpace(start))
		}
	}
	for line := range strings.SplitSeq(string(content), "\n") {
		name, _, ok := strings.Cut(strings.TrimPrefix(line, "**`"), "`**")
		if !ok || !strings.HasPrefix(line, "**`") || !strings.Contains(name, "/") && name != path.Base(certmgr) {
			continue
		}
		if !slices.ContainsFunc(listDeps(t, platforms[0]), func(p goPackage) bool { return p.ImportPath == module+"/"+name }) {
			t.Errorf("docs/architecture.md tells of %s, which is gone", name)
		}
	}
}
