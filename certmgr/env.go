package certmgr

import (
	"context"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/auditqueue"
	"github.com/nostall/nostall/internal/flight"
)

// env is shared by most components of an engine. Nothing in it changes.
type env struct {
	settings *settings

	// now is the wall clock: for times that are stored, shown, or compared with those of
	// the CA, of a certificate or of another process. It can be set, also back, and who
	// keeps one of its times for later has to cope with that (engine.go lists who
	// follows a clock that was set back). How long something takes or may take goes by
	// the monotonic clock, which nobody sets and which means nothing outside of this
	// process: time.Now with time.Since, timers, contexts. No time of the one is
	// compared with a time of the other.
	now func() time.Time

	dir     string // the CA's directory URL
	tasks   *flight.Tasks
	audit   *auditqueue.Queue
	reports *coalescer
}

func newEnv(m *Manager) *env {
	set := newSettings(m)
	e := &env{settings: set, now: m.clock, dir: set.client.DirectoryURL, tasks: flight.NewTasks()}
	if e.now == nil {
		e.now = time.Now
	}
	e.audit = &auditqueue.Queue{Hook: func() func(context.Context, audit.Event) { return m.Audit }, Now: e.now}
	e.reports = &coalescer{audit: e.audit, listed: func(host string) bool { return set.trustOf(host) == listed }}
	return e
}
