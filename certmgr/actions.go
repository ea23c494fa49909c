package certmgr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/renewal"
	"github.com/nostall/nostall/internal/text"
)

// actions implements Act: it checks what is asked for, and runs it in the
// background, by the operator.
type actions struct {
	*env
	operator *operator
	dns      *dnsWaits
	running  *flight.Flight[string, int] // by what is done to which host
	count    atomic.Int32                // running
	files    *flight.Callouts            // readings of the allowlist's file

	mu    sync.Mutex
	begun capped.Map[string, time.Duration] // when Act last began an issuance for a host, by the monotonic clock
}

const (
	// maxActions is the largest number of actions that run at the same time.
	maxActions = 256

	// maxActor is the part of an actor's name that events hold.
	maxActor = 128

	// maxActedOn is the number of hosts of which it is known when an action last
	// began an issuance.
	maxActedOn = 10_000

	// actEvery is the shortest time between two issuances that actions begin for
	// a host: whoever clicks again and again uses up the CA's limits.
	actEvery = renewal.MinInterval

	// reloadWait is how long the caller of an action waits for the allowlist's
	// file to be read.
	reloadWait = 2 * time.Second
)

func newActions(o *operator, dns *dnsWaits, w *flight.Waiters, files *flight.Callouts) *actions {
	return &actions{
		env:      o.env,
		operator: o,
		dns:      dns,
		running:  flight.Named[int](o.tasks, w),
		files:    files,
		begun:    capped.Map[string, time.Duration]{Max: maxActedOn},
	}
}

// act is Manager.Act.
func (as *actions) act(ctx context.Context, a Action) (ActionResult, error) {
	a.Actor = text.OneLine(strings.TrimSpace(a.Actor), maxActor)
	what, err := as.allow(ctx, &a)
	if err != nil {
		return as.refuse(a, err)
	}
	if what.unneeded {
		return as.nothing(a, ActionResult{State: ActionUnneeded}, "the host has a valid certificate")
	}
	call, err := as.running.StartIf(what.key, func() error { return as.mayBegin(what) }, nil, func(ctx context.Context) (int, error) {
		defer as.count.Add(-1)
		return as.run(ctx, a, what)
	})
	switch {
	case err != nil:
		return as.refuse(a, err)
	case !call.Began:
		res := ActionResult{State: ActionInFlight, Since: call.Since}
		if flying := as.flying(what.issues); len(flying) > 0 {
			res.Stage = flying[0].stage
		}
		return as.nothing(a, res, "it is in flight already")
	case a.Kind != ActionReload:
		return ActionResult{State: ActionBegun}, nil
	}
	entries, err := call.WaitFor(ctx, reloadWait)
	_, left := err.(*flight.Left)
	if left || errors.Is(err, flight.ErrNotYet) || errors.Is(err, ErrBusy) {
		return ActionResult{State: ActionBegun}, nil
	}
	if err != nil {
		return ActionResult{}, err
	}
	return ActionResult{State: ActionDone, Entries: entries}, nil
}

// task is an action that is allowed.
type task struct {
	key      string // actions with the same key are one
	host     string // empty if there is none
	do       func(ctx context.Context) (entries int, err error)
	issues   []subject // what it issues certificates for
	unneeded bool
}

// allow returns what to do for an action, or why it is not done. It normalises
// a.Host.
func (as *actions) allow(ctx context.Context, a *Action) (task, error) {
	switch {
	case as.tasks.IsClosed():
		return task{}, &refusal{kind: ErrClosed}
	case a.Actor == "":
		return task{}, errors.New("certmgr: an Action needs an Actor: who asks for it")
	case a.Kind == ActionReload:
		return as.reload(a.Actor)
	case a.Kind != ActionRetry && a.Kind != ActionRenew && a.Kind != ActionRevoke:
		return task{}, fmt.Errorf("certmgr: unknown action %q", text.OneLine(string(a.Kind), maxActor))
	}
	host, err := normalizeAny(a.Host, noHost)
	if err != nil {
		return task{}, err
	}
	a.Host = host
	if !as.knows(host) {
		return task{}, &refusal{kind: ErrHostNotAllowed, host: host, text: "it is not on Manager.Hosts by its exact name, and nothing is known of it: " +
			"no certificate in memory, no issuance in flight, no failure"}
	}
	d := as.operator.gate.permit(ctx, host)
	if d.err != nil {
		return task{}, d.err
	}
	return as.taskFor(*a, d.grant)
}

// knows reports whether host is on the list by its exact name, or there is any
// state for it.
func (as *actions) knows(host string) bool {
	o := as.operator
	if as.settings.trustOf(host) == listed || len(o.memory.certificates(host)) > 0 || as.dns.has(host) {
		return true
	}
	for alg := range bundle.Algorithm(bundle.Algorithms) {
		sub := as.subject(host, alg)
		if o.issuer.issues.Running(sub) != nil || o.health.failures.last(sub) != nil {
			return true
		}
	}
	return false
}

func (as *actions) taskFor(a Action, g grant) (task, error) {
	o, by := as.operator, behest{string(a.Kind), a.Actor}
	t := task{key: "issuance for " + a.Host, host: a.Host}
	switch a.Kind {
	case ActionRetry:
		t.issues = o.wanting(a.Host)
		t.unneeded = len(t.issues) == 0
		t.do = func(ctx context.Context) (int, error) { return 0, o.retry(ctx, t.issues, g, by) }
	case ActionRenew:
		t.issues = o.renewable(a.Host)
		t.do = func(ctx context.Context) (int, error) { return 0, o.issueAll(ctx, t.issues, g, by) }
	case ActionRevoke:
		t.key = "revocation for " + a.Host
		t.do = func(ctx context.Context) (int, error) {
			return 0, o.revokeNow(ctx, a.Host, revocation{a.Reason, a.Actor})
		}
	}
	return t, nil
}

func (as *actions) reload(actor string) (task, error) {
	list := as.settings.hosts
	if list == nil || list.file == nil {
		return task{}, errNoFile
	}
	return task{key: "reading the allowlist's file", do: func(ctx context.Context) (int, error) {
		in, cancel := context.WithTimeout(ctx, fileTimeout)
		defer cancel()
		return flight.CallOut(in, as.files, list.file.Path(), func(ctx context.Context) (int, error) {
			err := list.reload(ctx, nil, actor)
			return list.names.Load().Len(), err
		})
	}}, nil
}

// alreadyInFlight is the reason to begin nothing: an issuance is in flight that no
// action has begun.
type alreadyInFlight struct {
	since time.Time
	stage audit.Stage
}

func (alreadyInFlight) Error() string { return "certmgr: an issuance is in flight" }

// mayBegin returns why an action does not begin now, or counts it. It does not
// block: it is called atomically with the decision to begin.
func (as *actions) mayBegin(t task) error {
	if as.count.Load() >= maxActions {
		return &refusal{kind: ErrBusy, host: t.host, text: fmt.Sprintf("%d actions are running", maxActions)}
	}
	if len(t.issues) > 0 {
		if err := as.mayIssue(t); err != nil {
			return err
		}
	}
	as.count.Add(1)
	return nil
}

// flying returns the issuances in flight for any of subs.
func (as *actions) flying(subs []subject) (list []alreadyInFlight) {
	for _, sub := range subs {
		if c := as.operator.issuer.issues.Running(sub); c != nil {
			list = append(list, alreadyInFlight{c.Since, issuanceOf(c).getStage()})
		}
	}
	return list
}

// asked returns the failure of one of subs after which the CA wants no request
// yet, or nil. A pause ends when somebody visits the CA's page.
func (as *actions) asked(subs []subject) *failure {
	for _, sub := range subs {
		if rec := as.operator.health.failures.last(sub); rec != nil && rec.asked.After(as.now()) && rec.err.State != StatePaused {
			return rec
		}
	}
	return nil
}

// mayIssue returns why a task that issues certificates does not begin now, or
// notes that it does.
func (as *actions) mayIssue(t task) error {
	if flying := as.flying(t.issues); len(flying) == len(t.issues) {
		return flying[0]
	}
	now, ran := as.now(), as.ran()
	if rec := as.asked(t.issues); rec != nil {
		return &caRefusal{refusal{
			kind:  ErrBackoff,
			host:  t.host,
			text:  "the CA wants no request before " + text.Stamp(rec.asked),
			cause: rec.err,
		}, rec.asked}
	}
	as.mu.Lock()
	defer as.mu.Unlock()
	if last, ok := as.begun.Get(t.host); ok && ran-last < actEvery {
		next := now.Add(actEvery - (ran - last))
		return &caRefusal{refusal{
			kind: ErrBackoff,
			host: t.host,
			text: fmt.Sprintf("an operator has begun an attempt %v ago; the next one can begin %s", (ran - last).Round(time.Second), text.Stamp(next)),
		}, next}
	}
	as.begun.Put(t.host, ran, func(a, b time.Duration) bool { return a < b })
	return nil
}

// run does what an action asks for, and tells how it ends.
func (as *actions) run(ctx context.Context, a Action, t task) (entries int, err error) {
	e := as.event(audit.OperatorAction, a)
	e.Decision = audit.Allowed
	as.audit.Emit(e)
	entries, err = t.do(ctx)
	if err != nil {
		if as.tasks.IsClosed() && !errors.Is(err, ErrClosed) {
			err = &refusal{kind: ErrClosed, host: t.host, text: "before the end of the action", cause: err}
		}
		e := as.event(audit.OperatorActionFailed, a)
		e.Err = err
		as.audit.Emit(e)
	}
	return entries, err
}

// event returns an event about an action.
func (as *actions) event(kind audit.Kind, a Action) audit.Event {
	e := audit.Event{
		Kind:       kind,
		Host:       text.OneLine(a.Host, hosts.MaxLength),
		Actor:      a.Actor,
		RemoteAddr: text.OneLine(a.RemoteAddr, maxActor),
		Reason:     text.OneLine(string(a.Kind), maxActor),
	}
	if a.Kind == ActionRevoke {
		e.Reason += " (" + reasonName(a.Reason) + ")"
	}
	return e
}

// deniedGroup is the group of refusals of those who were not identified.
const deniedGroup = "actions of unknown operators"

// group returns the group of the coalesced events of a's actor.
func (a Action) group() string { return "actions of " + cmp.Or(a.Actor, "nobody") }

// nothing tells that an action began nothing.
func (as *actions) nothing(a Action, res ActionResult, why string) (ActionResult, error) {
	e := as.event(audit.OperatorAction, a)
	e.Decision = audit.Allowed
	e.Reason += ": " + why
	as.reports.reportAs(a.group(), e)
	return res, nil
}

// refuse tells that an action was refused.
func (as *actions) refuse(a Action, err error) (ActionResult, error) {
	if f, ok := err.(alreadyInFlight); ok {
		return as.nothing(a, ActionResult{State: ActionInFlight, Since: f.since, Stage: f.stage}, "an issuance is in flight already")
	}
	e := as.event(audit.OperatorActionFailed, a)
	e.Decision, e.Err = audit.Refused, err
	as.reports.reportAs(a.group(), e)
	var res ActionResult
	if r, ok := err.(*caRefusal); ok {
		res.RetryAt = r.retryAt
	}
	return res, withHost(err, a.Host)
}
