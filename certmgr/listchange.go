package certmgr

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/hosts"
)

// listWatch applies changes of the allowlist.
type listWatch struct {
	*env
	gate       *gate
	memory     *memory
	failures   *failures
	dns        *dnsWaits
	unfinished *orderStore
	issuer     *issuer
	keeper     keeper
	progress   *progress
	visits     *visits
}

// hostsChanged is called for each change of the allowlist. It does not block.
func (w *listWatch) hostsChanged(c change) {
	if w.tasks.IsClosed() {
		return
	}
	if c.rejected != nil {
		w.audit.Emit(audit.Event{Kind: audit.AllowlistRejected, Rule: "Hosts", Reason: "the list is unchanged", Err: c.rejected})
		return
	}
	w.visits.follow(c, w.now())
	changed := audit.Event{Rule: "Hosts", Reason: c.reason, Actor: c.actor}
	listed, unlisted, reloaded := changed, changed, changed
	listed.Kind, listed.Decision = audit.HostListed, audit.Allowed
	w.reportEntries(listed, c.added)
	unlisted.Kind, unlisted.Decision = audit.HostUnlisted, audit.Refused
	w.reportEntries(unlisted, c.removed)
	if c.reloaded {
		reloaded.Kind, reloaded.Count = audit.AllowlistReloaded, c.count
		w.audit.Emit(reloaded)
	}
	if len(c.added)+len(c.again) > 0 {
		listed := slices.Concat(c.added, c.again)
		w.failures.relist(listed, w.now())
		w.probeListed(listed)
	}
	if len(c.regrouped) > 0 {
		w.regrouped(listed, c.regrouped)
	}
	if len(c.removed) > 0 {
		w.endUnlisted(c)
	}
}

// maxEntryEvents is the largest change that gets an event for each entry.
const maxEntryEvents = 100

// reportEntries emits an event for each entry, or one for all if there are
// many.
func (w *listWatch) reportEntries(e audit.Event, entries []string) {
	if n := len(entries); n > maxEntryEvents {
		e.Host, e.Count = entries[0], n
		w.audit.Emit(e)
		return
	}
	for _, entry := range entries {
		e.Host = entry
		w.audit.Emit(e)
	}
}

// endUnlisted ends issuances and service for the hosts of removed entries that
// nothing else allows. Issuances in flight end before it returns, unless
// HostPolicy must be asked.
func (w *listWatch) endUnlisted(c change) {
	for _, name := range c.removed {
		w.progress.have(name) // no longer wanted by a Start
	}
	if w.settings.hostPolicy == nil {
		w.issuer.issues.Each(func(call *issueCall) {
			for _, host := range issuanceOf(call).hosts() {
				if w.settings.trustOf(host) != notAllowed {
					return
				}
			}
			w.issuer.issues.CancelKey(call.Key, takenOff(call.Key.host(), c.reason, nil))
		})
	}
	w.tasks.Go(func(ctx context.Context) {
		hosts := w.affected(c.removed)
		if w.settings.hostPolicy == nil {
			w.forgetOrders(c.removed)
			for _, host := range hosts {
				w.keeper.drop(host, nil)
			}
			return
		}
		eachHost(ctx, hosts, func(host string) { w.askAgainAbout(ctx, host, c.reason) })
	})
}

// probeListed brings the probes of names forward that wait for DNS and were listed
// again.
func (w *listWatch) probeListed(entries []string) {
	for _, entry := range entries {
		if e, sub, soon := w.dns.visited(entry, w.now()); soon {
			w.keeper.scheduleProbe(sub, e.RetryAt)
		}
	}
}

// forgetOrders deletes the orders of hosts, of which the Cache may have some of the
// last process. If there are many, it leaves those to expire: nobody reads them
// while the hosts are not allowed.
func (w *listWatch) forgetOrders(entries []string) {
	if len(entries) > maxEntryEvents {
		return
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry, "*") && w.settings.trustOf(entry) == notAllowed {
			w.unfinished.dropHost(entry)
		}
	}
}

// askAgainAbout asks HostPolicy about a host that was removed from the list.
func (w *listWatch) askAgainAbout(ctx context.Context, host, reason string) {
	switch d := w.gate.permit(ctx, host); d.is {
	case audit.Refused:
		endIssuances(w.issuer, host, func() *refusal { return takenOff(host, reason, d.err) })
		w.keeper.drop(host, d.err)
	case audit.Undecided:
		if ctx.Err() == nil {
			w.gate.policy.report(host, d.err)
		}
	}
}

// affected returns the hosts that entries allowed, that Hosts no longer allows,
// and for which there is any state.
func (w *listWatch) affected(entries []string) []string {
	w.memory.settle()
	var named, wildcards []string
	for _, entry := range entries {
		if strings.HasPrefix(entry, "*") {
			wildcards = append(wildcards, entry)
		} else if w.hasStateFor(entry) {
			named = append(named, entry)
		}
	}
	if len(wildcards) > 0 {
		below := hosts.Collect(wildcards)
		for _, host := range w.hostsWithState() {
			if below.Match(host) != hosts.None {
				named = append(named, host)
			}
		}
	}
	return slices.DeleteFunc(named, func(host string) bool { return w.settings.trustOf(host) != notAllowed })
}

// hasStateFor reports whether there is any state for host: a certificate in
// memory, an issuance in flight, a failure, an unfinished order.
func (w *listWatch) hasStateFor(host string) bool {
	if len(w.memory.certificates(host)) > 0 || w.dns.has(host) {
		return true
	}
	for alg := range bundle.Algorithm(bundle.Algorithms) {
		sub := w.subject(host, alg)
		if w.issuer.issues.Running(sub) != nil || w.failures.last(sub) != nil || w.unfinished.has(sub) {
			return true
		}
	}
	return false
}

// hostsWithState returns all hosts for which hasStateFor is true.
func (w *listWatch) hostsWithState() []string {
	var hosts []string
	for _, at := range w.memory.all() {
		hosts = append(hosts, at.host)
	}
	w.issuer.issues.Each(func(c *issueCall) { hosts = append(hosts, c.Key.host()) })
	w.failures.all(func(id string, _ *failure, _ bool) {
		if host, group := hostOfID(id); !group {
			hosts = append(hosts, host)
		}
	})
	hosts = append(hosts, w.unfinished.hosts()...)
	hosts = append(hosts, w.dns.names()...)
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// fileTimeout is the time-out of one look at the allowlist's file, including
// its reading.
const fileTimeout = time.Minute

// watchHostsFile reads the allowlist's file when it changes, until ctx ends. A
// file system that hangs costs a goroutine and delays nothing else.
func (w *listWatch) watchHostsFile(ctx context.Context, looks *flight.Callouts) {
	ticker := time.NewTicker(hosts.PollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		in, cancel := context.WithTimeout(ctx, fileTimeout)
		_, err := flight.CallOut(in, looks, w.settings.hosts.file.Path(), func(ctx context.Context) (struct{}, error) {
			w.settings.hosts.poll(ctx)
			return struct{}{}, nil
		})
		cancel()
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrBusy) {
			w.settings.hosts.hangs(err)
		}
	}
}
