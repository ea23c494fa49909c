package fleet

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// document is the file that has the results, between two comments.
const document = "../../../docs/fleets.md"

const (
	tablesBegin = "<!-- measured: go test ./internal/integration/fleet -fleet.all -update -->\n"
	tablesEnd   = "<!-- end of what was measured -->\n"
)

// results are what was measured.
type results struct {
	mu    sync.Mutex
	cells map[cell]time.Duration
}

// cell is a place in the tables.
type cell struct {
	kind  storeKind
	fault string
	stage stage
}

func newResults() *results { return &results{cells: make(map[cell]time.Duration)} }

// add adds what a trial has measured.
func (r *results) add(kind storeKind, f fault, issuances []*issuance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range issuances {
		r.cells[cell{kind, f.name, i.stage}] = i.took
	}
}

// tables returns the tables of the document: one for the store on which every
// stage is shown, and one for the others with the slowest stage.
func (r *results) tables() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	head := func(title string) {
		fmt.Fprintf(&b, "| %s |", title)
		for _, f := range faults() {
			fmt.Fprintf(&b, " %s |", f.name)
		}
		b.WriteString("\n| --- |" + strings.Repeat(" ---: |", len(faults())) + "\n")
	}
	head("held up at")
	for _, s := range append([]stage{atAccount}, stages()...) {
		fmt.Fprintf(&b, "| %s |", s)
		for _, f := range faults() {
			fmt.Fprintf(&b, " %.1f s |", r.cells[cell{fullKind, f.name, s}].Seconds())
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	head("store, slowest stage")
	for _, kind := range kinds() {
		fmt.Fprintf(&b, "| %s |", kind)
		for _, f := range faults() {
			if !kind.can(f) {
				b.WriteString(" |")
				continue
			}
			var slowest time.Duration
			for _, s := range stages() {
				slowest = max(slowest, r.cells[cell{kind, f.name, s}])
			}
			fmt.Fprintf(&b, " %.1f s |", slowest.Seconds())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// write puts the tables into the document.
func (r *results) write(t *testing.T) {
	t.Helper()
	before, _, after := readDocument(t)
	text := before + tablesBegin + r.tables() + tablesEnd + after
	if err := os.WriteFile(document, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readDocument returns the document's tables, and what is around them.
func readDocument(t *testing.T) (before, tables, after string) {
	t.Helper()
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	before, rest, ok := strings.Cut(string(data), tablesBegin)
	tables, after, ended := strings.Cut(rest, tablesEnd)
	if !ok || !ended {
		t.Fatalf("%s has no place for the tables", document)
	}
	return before, tables, after
}

var seconds = regexp.MustCompile(`\d+\.\d s`)

// The document has each fault, stage and store that is tested. The times in it are
// those of some run.
func TestDocumentHasEveryFault(t *testing.T) {
	_, tables, _ := readDocument(t)
	got := seconds.ReplaceAllString(tables, "N s")
	if want := seconds.ReplaceAllString(newResults().tables(), "N s"); got != want {
		t.Errorf("%s has\n%s\nwant\n%s\nrun the test with -fleet.all -update", document, got, want)
	}
}
