package cases

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// T is the *testing.T of a case. In a known failure, what would fail the test
// is logged, and the test is skipped at the end.
type T struct {
	*testing.T
	table *Table
	name  string
	state *state
}

// state is shared by the T of a case and those of its bubbles.
type state struct {
	known  bool
	failed atomic.Bool
}

var _ testing.TB = (*T)(nil)

// Run runs a subtest, which is a case itself: its name in the table is the name
// of the case, a slash and name.
func (t *T) Run(name string, f func(t *T)) bool {
	t.Helper()
	full := t.name + "/" + name
	return t.T.Run(name, func(t2 *testing.T) { t.table.run(t2, full, f) })
}

// Bubble runs f in a bubble of virtual time.
func (t *T) Bubble(f func(t *T)) {
	t.Helper()
	returned := false
	synctest.Test(t.T, func(inner *testing.T) {
		c := *t
		c.T = inner
		f(&c)
		returned = true
	})
	if !returned {
		t.SkipNow() // FailNow or SkipNow ended f; a failure has failed t already
	}
}

// Fail marks the case as failed.
func (t *T) Fail() {
	t.state.failed.Store(true)
	if !t.state.known {
		t.T.Fail()
	}
}

// FailNow marks the case as failed and ends it.
func (t *T) FailNow() {
	t.state.failed.Store(true)
	if !t.state.known {
		t.T.FailNow()
	}
	t.T.SkipNow()
}

// Failed reports whether the case has failed.
func (t *T) Failed() bool { return t.state.failed.Load() || t.T.Failed() }

// Error is Log, then Fail.
func (t *T) Error(args ...any) {
	t.Helper()
	t.Log(args...)
	t.Fail()
}

// Errorf is Logf, then Fail.
func (t *T) Errorf(format string, args ...any) {
	t.Helper()
	t.Logf(format, args...)
	t.Fail()
}

// Fatal is Log, then FailNow.
func (t *T) Fatal(args ...any) {
	t.Helper()
	t.Log(args...)
	t.FailNow()
}

// Fatalf is Logf, then FailNow.
func (t *T) Fatalf(format string, args ...any) {
	t.Helper()
	t.Logf(format, args...)
	t.FailNow()
}
