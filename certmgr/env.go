package certmgr

import (
	"context"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/auditqueue"
	"github.com/nostall/nostall/internal/flight"
)

// env is shared by most components of an engine. Nothing in it changes.
type env struct {
	settings *settings

	clock

	dir      string // the CA's directory URL
	tasks    *flight.Tasks
	audit    *auditqueue.Queue
	reports  *coalescer
	warnings *warnings
}

func newEnv(m *Manager) *env {
	set := newSettings(m)
	e := &env{settings: set, clock: newClock(m.clock), dir: set.client.DirectoryURL, tasks: flight.NewTasks()}
	e.audit = &auditqueue.Queue{Hook: func() func(context.Context, audit.Event) { return m.Audit }, Now: e.now}
	e.reports = &coalescer{audit: e.audit, listed: func(host string) bool { return set.trustOf(host) == listed }}
	e.warnings = &warnings{audit: e.audit}
	return e
}
