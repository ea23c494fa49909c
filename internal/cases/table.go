package cases

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A Table runs the cases of one package and knows which of them must fail. It
// is safe for concurrent use.
type Table struct {
	why map[string]string // by the name of the case; not changed

	mu   sync.Mutex
	seen map[string]bool // the known failures that ran
}

// For returns the table of a package: "cases", "certmgr", "integration" or
// "probe".
func For(pkg string) *Table {
	tb := &Table{why: make(map[string]string), seen: make(map[string]bool)}
	for _, k := range knownFailures() {
		if k.pkg == pkg {
			tb.why[k.name] = k.why
		}
	}
	return tb
}

// Run runs a case as a subtest of t, under its name in the table.
func (tb *Table) Run(t *testing.T, name string, f func(t *T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { tb.run(t, name, f) })
}

func (tb *Table) run(t *testing.T, name string, f func(t *T)) {
	why, known := tb.look(name)
	c := &T{T: t, table: tb, name: name, state: &state{known: known}}
	returned := false
	defer func() {
		switch {
		case !known:
		case c.state.failed.Load():
			t.Skipf("known failure: %s", why)
		case returned && !t.Skipped():
			t.Errorf("%s passes now: delete its line from the table of known failures (internal/cases/known.go)", name)
		}
	}()
	f(c)
	returned = true
}

func (tb *Table) look(name string) (why string, known bool) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if why, known = tb.why[name]; known {
		tb.seen[name] = true
	}
	return why, known
}

// maxHeap is the memory in bytes, without that of the race detector, above which
// garbage is collected as often as necessary.
const maxHeap = 1 << 30

// Main runs the tests of a package and returns the exit code. It fails if the
// table names a case that did not run. Call it in TestMain.
//
// These tests make much garbage and keep little, so the garbage collector takes
// a sixth of their time with its default setting. Up to maxHeap it runs less often.
func (tb *Table) Main(m *testing.M) int {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
		debug.SetMemoryLimit(maxHeap)
	}
	code := m.Run()
	if code != 0 || partial() {
		return code
	}
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(tb.why)) {
		if !tb.seen[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		fmt.Fprintf(os.Stderr, "internal/cases/known.go names cases that do not exist: %s\n", strings.Join(missing, ", "))
		return 1
	}
	return 0
}

// partial reports whether flags exclude some tests.
func partial() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.bench", "test.fuzz"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return true
		}
	}
	return testing.Short()
}
