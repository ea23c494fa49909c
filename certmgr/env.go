package certmgr

import (
	"github.com/nostall/nostall/internal/auditqueue"
	"github.com/nostall/nostall/internal/flight"
)

// env is shared by most components of an engine. Nothing in it changes.
type env struct {
	settings *settings
	groups   groups // set before the first use

	clock

	dir       string // the CA's directory URL
	authority *authority
	tasks     *flight.Tasks
	audit     *auditqueue.Queue
	reports   *coalescer
	warnings  *warnings
	own       *owned // nil without Manager.Certificates
}

func newEnv(m *Manager) *env {
	set := newSettings(m)
	e := &env{settings: set, clock: newClock(m.clock), dir: set.client.DirectoryURL, tasks: flight.NewTasks()}
	e.audit = &auditqueue.Queue{
		Hook:        m.auditHook,
		Now:         e.now,
		IsStrangers: set.isStrangers,
	}
	e.reports = &coalescer{audit: e.audit, listed: func(host string) bool { return set.trustOf(host) == listed }}
	e.authority = newAuthority(e.dir)
	e.warnings = &warnings{audit: e.audit}
	e.own = newOwned(set, e.clock)
	if set.servesNobody() {
		e.warnings.warn(allowsNobody("example.com") + ", with your names")
	}
	if err := set.invalid(); err != nil {
		e.warnings.warn(err.Error())
	}
	if why := set.warnOfDefaultHost(); why != "" {
		e.warnings.warn(why)
	}
	if set.keepKey && set.keySource != nil {
		e.warnings.warn("Manager.KeepKey has no effect with Manager.KeySource, which decides about keys: set only one of them")
	}
	if set.cache == nil && !set.allowsNobody() {
		e.warnings.warn("Manager.Cache is nil: certificates and the account's key are lost when the process ends, and each start orders " +
			"them again, until the CA's rate limits refuse that; set Cache, for example to certmgr.DirCache(\"/var/lib/certs\")")
	}
	return e
}
