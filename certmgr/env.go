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

	// now is the wall clock, for times that are stored, shown, or compared with
	// those of the CA, a certificate or another process. It can be set, also
	// back; code that keeps one of its times must cope with that (engine.go
	// lists what follows a clock that was set back). Durations and timeouts use
	// the monotonic clock, which cannot be set and means nothing outside this
	// process: time.Now with time.Since, timers, contexts. A time of one clock
	// is never compared with a time of the other.
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
