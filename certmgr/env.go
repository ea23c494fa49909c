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
	now      func() time.Time // the wall clock: for times that are stored, or compared with the CA or a certificate
	dir      string           // the CA's directory URL
	tasks    *flight.Tasks
	audit    *auditqueue.Queue
	reports  *coalescer
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
