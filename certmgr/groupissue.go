package certmgr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/order"
	"github.com/nostall/nostall/internal/pace"
)

// leaver is a name that an order failed for, and the next one goes without.
type leaver struct {
	name  string
	stage audit.Stage
	err   error
}

// groupOfIssuance is what an issuance knows of the names of a group. Only its own
// goroutine uses names and left.
type groupOfIssuance struct {
	asked *hosts.Group // the group as of the request, or nil
	names []string     // of the order
	left  []leaver     // names that have left the order
}

// ended takes over what an attempt has found out.
func (g *groupOfIssuance) ended(out outcome) {
	if out.names != nil {
		g.names, g.left = out.names, out.left
	}
}

// maxOrdersPerAttempt is how many orders an attempt places for a group: each one
// after the first is for fewer names.
const maxOrdersPerAttempt = 3

// errOtherNames: an order was to be resumed, and the next one would be for names
// that are not those of the group any more.
var errOtherNames = errors.New("certmgr: the group has other names than the order that was resumed")

// maxNames returns how many names a certificate of a profile may have, by the
// documentation of Let's Encrypt.
func maxNames(profile string) int {
	if profile == "tlsserver" || profile == "shortlived" {
		return maxShortNames
	}
	return hosts.MaxGroup
}

// maxShortNames is that number for the profiles tlsserver and shortlived.
const maxShortNames = 25

// groupOrder is what a conversation knows of the names of its orders. Only the
// goroutine of its attempt uses it.
type groupOrder struct {
	names   []string // of the order
	left    []leaver
	placed  int      // runs of package order
	resumed bool     // for the names of an order that was resumed
	wanted  []string // those to order if nothing comes of that, or nil
}

// leave reports whether another order is placed in the same attempt, after one
// failed with err. If that is about some of the names, those leave.
func (c *conversation) leave(err error) bool {
	g := &c.ofGroup
	if errors.Is(err, errOtherNames) {
		return true // once
	}
	named, ok := errors.AsType[*order.NamesError](err)
	if !ok {
		return false
	}
	rest := slices.DeleteFunc(slices.Clone(g.names), func(name string) bool { return named.Failed[name] != nil })
	if len(rest) == 0 || len(rest) == len(g.names) {
		return false
	}
	for _, name := range g.names {
		if cause := named.Failed[name]; cause != nil {
			g.left = append(g.left, leaver{name, c.getStage(), cause})
		}
	}
	g.names = rest
	return g.placed < maxOrdersPerAttempt
}

// resume returns the order that an earlier attempt did not finish, or nil. One of a
// group whose certificate was asked for is resumed for the names that it has;
// another one only if these are still the ones to order.
func (c *conversation) resume(ctx context.Context) *order.Unfinished {
	g := &c.ofGroup
	g.placed++
	u := c.kept.resume(ctx, c.req.override)
	if u == nil || !c.req.sub.group || u.Names == "" || u.Names == strings.Join(g.names, " ") {
		return u
	}
	if u.Key == nil || g.resumed {
		c.kept.keep(ctx, nil)
		return nil
	}
	g.resumed, g.wanted, g.names = true, g.names, strings.Fields(u.Names)
	return u
}

// mayPlace wraps order.Request's Order: no new order is placed for the names of one
// that was resumed.
func (c *conversation) mayPlace(count func(bool) (func(bool, error), error)) func(bool) (func(bool, error), error) {
	return func(replaces bool) (func(bool, error), error) {
		if g := &c.ofGroup; g.wanted != nil {
			g.names, g.wanted = g.wanted, nil
			return nil, errOtherNames
		}
		if n, most := len(c.ofGroup.names), maxNames(c.profile.name); n > most {
			return nil, fmt.Errorf("the group has %d names, and the profile %q allows %d: take names out of the group, or choose another profile", n, c.profile.name, most)
		}
		return count(replaces)
	}
}

// recallMembers reads what the Cache knows of the failures of a group's members, so
// that those that fail by themselves are left out. What cannot be read in time is
// taken for no failure.
func recallMembers(ctx context.Context, is *issuer, i *issuance) {
	g := is.groupOf(i.req.sub)
	if g == nil || is.settings.cache == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, cacheTimeout)
	defer cancel()
	eachHost(ctx, g.Names(), func(host string) {
		is.health.recall(ctx, is.ownSubject(host, i.req.sub.alg), i.req.grant)
	})
}

// noteLeavers records the failures of the names that have left the order, each as
// that of a host that failed alone.
func noteLeavers(is *issuer, i *issuance) {
	for _, l := range i.req.group.left {
		if is.settings.trustOf(l.name) == notAllowed {
			continue
		}
		own := is.ownSubject(l.name, i.req.sub.alg)
		e := is.newError(i, l.stage, l.err)
		e.Host = l.name
		if l.stage == audit.StagePreflight && is.health.dns.covers(l.name) {
			if waits := is.health.dns.note(own, *e); waits != nil {
				is.keeper.scheduleProbe(own, waits.RetryAt)
				writeFor(is, i, func(ctx context.Context) { is.health.dns.share(ctx, own.host()) })
				continue
			}
		}
		failAlone(is, i, own, e)
	}
}

// failAlone records a failure of one member of a group.
func failAlone(is *issuer, i *issuance, own subject, e *IssuanceError) {
	rec := is.health.newFailure(i, e)
	if last := is.health.failures.last(own); last != nil {
		e.Attempts += last.err.Attempts
		rec.since, rec.blame, rec.extra = last.since, last.blame, last.extra.carried()
	}
	rec.blame = rec.blame.after(troubleHost, e.Time)
	e.RetryAt = e.Time.Add(is.settings.backoffFor(rec.blame.host, at(is.memory, own.host(), own.alg)))
	if wait := retryAfter(e.Err); wait > 0 {
		rec.asked = e.Time.Add(wait)
		e.RetryAt = pace.Later(e.RetryAt, rec.asked)
	}
	e.hold(is.orders.ca.CAAIssuer())
	is.health.remember(own, rec)
	failed := i.eventAbout(own.host(), audit.Event{
		Kind:    audit.MemberFailed,
		Stage:   e.Stage,
		Reason:  i.req.reason + ", in the group of " + i.host(),
		RetryAt: e.RetryAt,
		Count:   e.Attempts,
		Err:     e,
	})
	e.describe(&failed)
	is.audit.Emit(failed)
	is.tasks.Go(func(ctx context.Context) { is.health.saveFailure(context.WithoutCancel(ctx), own, rec) })
}

// publishShared is publish for the certificate of a group, for those of its names
// that are still on the list. If the list has changed meanwhile, it is that of the
// group that has most of them.
func publishShared(ctx context.Context, is *issuer, i *issuance, cert *certificate) (*certificate, *refusal) {
	placed, offList := putPublished(is.memory, cert, i.req.grant, is.now(), func() (placement, *refusal) {
		if offList := takenOffBy(ctx); offList != nil {
			return placement{}, offList
		}
		p := is.place(cert)
		if len(p.names) == 0 {
			return p, takenOff(i.host(), "", nil)
		}
		return p, nil
	})
	if placed == nil {
		return cert, offList
	}
	is.keeper.scheduleIssued(placed)
	return placed, nil
}

// place returns where a certificate of a group belongs by the list as it is: to its
// own group as long as that has any of its names.
func (e *env) place(c *certificate) (p placement) {
	bySubject := make(map[subject][]string)
	for _, name := range c.hosts() {
		if e.settings.trustOf(name) != listed {
			continue
		}
		sub := e.ownSubject(name, c.alg)
		if g := e.settings.hosts.group(name); g != nil {
			sub = e.groupSubject(g, c.alg)
		}
		bySubject[sub] = append(bySubject[sub], name)
		if names := bySubject[sub]; sub == c.subject || p.sub != c.subject && len(names) > len(p.names) {
			p = placement{sub: sub, names: names}
		}
	}
	return p
}

// settleMembers forgets, after a group has its certificate, what its members failed
// for by themselves.
func settleMembers(is *issuer, i *issuance, cert *certificate) {
	if !cert.isShared() {
		return
	}
	for _, host := range i.req.group.names {
		own := is.ownSubject(host, cert.alg)
		if !is.health.failures.forget(own) {
			continue
		}
		is.tasks.Go(func(ctx context.Context) {
			for _, key := range recordKeysOf(own) {
				is.health.deleteRecord(context.WithoutCancel(ctx), key, i.req.grant.trust)
			}
		})
	}
}

// pointMembers writes, for each name of a certificate that the Cache has, where it
// is, unless the Cache knows. Losing that costs at most one order after a change of
// the group.
func pointMembers(is *issuer, c *certificate) {
	is.tasks.Go(func(ctx context.Context) {
		eachHost(ctx, c.hosts(), func(host string) {
			key := pointerCacheKey(host, c.alg)
			if is.store.failedLately(key) != nil {
				return
			}
			is.store.update(context.WithoutCancel(ctx), key, func([]byte) ([]byte, error) { return []byte(c.entry), nil })
		})
	})
}
