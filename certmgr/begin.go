package certmgr

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

// issuance is an issuance in flight, from its start to its outcome.
type issuance struct {
	id          string // identifies it in events
	req         issueRequest
	requestedAt time.Time         // before any queue, by the monotonic clock
	trace       *acmeclient.Trace // its requests to the CA

	// Other goroutines may read these.
	stage  atomic.Pointer[audit.Stage] // nil while it waits for its slot
	reread atomic.Int64                // when the cache was last read, in Unix nanoseconds
	away   awayState

	thisAttempt
	inFleet
}

// thisAttempt is what an issuance knows of its attempt. Only its own goroutine uses
// it.
type thisAttempt struct {
	last    *failure  // of the previous issuance, or nil
	one     bool      // it is the one order that ends an outage of the CA, or prolongs it
	began   time.Time // when it got its slot, by the monotonic clock; zero before
	profile chosenProfile
	counted countedAttempt
	claim   orderClaim
}

func newIssuance(req issueRequest, now time.Time) *issuance {
	i := &issuance{
		id:          strings.ToLower(rand.Text()[:10]),
		req:         req,
		requestedAt: time.Now(),
		trace:       new(acmeclient.Trace),
	}
	i.reread.Store(now.UnixNano())
	i.away.begin()
	return i
}

// issueCall is the call of an issuance.
type (
	issueCall   = flight.Call[subject, *certificate]
	issueTicket = flight.Ticket[subject, *certificate]
)

// issuanceOf returns the issuance of a call.
func issuanceOf(c *issueCall) *issuance { return c.About.(*issuance) }

func (i *issuance) host() string { return i.req.sub.host() }

// hosts returns the hosts that the issuance is for: all names of the group, as of
// its start.
func (i *issuance) hosts() []string {
	if g := i.req.group.asked; g != nil {
		return g.Names()
	}
	return []string{i.host()}
}

// event sets the fields of e that identify the issuance.
func (i *issuance) event(e audit.Event) audit.Event {
	sub := i.req.sub
	e.Host, e.KeyType, e.Attempt, e.CA = sub.host(), sub.alg.String(), i.id, sub.ca
	e.Actor, e.Profile = i.req.by.actor, cmp.Or(e.Profile, i.profile.name)
	e.Names = others(e.Host, i.req.group.names)
	return e
}

// eventAbout is event for one of the names of a group, or for all if host is empty.
func (i *issuance) eventAbout(host string, e audit.Event) audit.Event {
	e = i.event(e)
	if host != "" {
		e.Host, e.Names = host, ""
	}
	return e
}

func (i *issuance) enter(s audit.Stage) { i.stage.Store(&s) }

func (i *issuance) getStage() audit.Stage {
	if s := i.stage.Load(); s != nil {
		return *s
	}
	return audit.StageQueue
}

// mayReread reports whether a handshake may trigger another cache read while
// the issuance is in flight, and records that it does.
func (i *issuance) mayReread(now time.Time) bool {
	last := i.reread.Load()
	since := now.UnixNano() - last
	return (since < 0 || since >= int64(rereadEvery)) && i.reread.CompareAndSwap(last, now.UnixNano())
}

// begin starts an issuance unless one is in flight or check returns an error.
// check runs atomically with the decision and must not block.
func (is *issuer) begin(req issueRequest, check func() error) (issueTicket, error) {
	i := newIssuance(req, is.now())
	i.req.group.asked = is.groupOf(req.sub)
	i.had = is.memory.current(req.sub)
	count := func() error {
		if offList := is.gate.offList(i.host()); offList != nil {
			return offList
		}
		if err := is.own.forbids(req.sub, is.now()); err != nil {
			return err
		}
		if check != nil {
			if err := check(); err != nil {
				return err
			}
		}
		is.count(req.grant, 1)
		return nil
	}
	return is.issues.StartIf(req.sub, count, i, func(ctx context.Context) (*certificate, error) {
		defer is.count(req.grant, -1)
		return is.issue(ctx, i)
	})
}

// count adds n to the counts of issuances in flight for hosts that are not on
// the list by their exact names.
func (is *issuer) count(g grant, n int32) {
	if g.trust == untrusted {
		is.unlisted.untrusted.Add(n)
	}
	if g.unlisted() {
		is.unlisted.all.Add(n)
	}
}

// Limits on issuances in flight, including queued ones: for untrusted hosts,
// and for all hosts that are not in Hosts by their exact names, since a user's
// policy may allow everything too.
const (
	maxUntrusted = 256
	maxUnlisted  = 1024
)

// unlistedHosts limits issuances for hosts that are not in Hosts by their exact
// names.
type unlistedHosts struct {
	pacer     *pacer       // of new untrusted names
	untrusted atomic.Int32 // issuances in flight for untrusted hosts
	all       atomic.Int32 // the same for all unlisted hosts
}

// mayIssue returns why nothing may be issued for req now, or nil. Call it last,
// since an untrusted name uses up a token.
func (is *issuer) mayIssue(req issueRequest) error {
	if e := is.health.dns.of(req.sub.id()); e != nil {
		return waitingForDNS(e)
	}
	if rec := is.health.failures.active(req.sub, is.now()); rec != nil {
		return backingOff(rec)
	}
	if err := is.health.refuse(req); err != nil {
		return err
	}
	if err := is.orders.mayAsk(req); err != nil {
		return err
	}
	if err := is.locks.fleet.failedLately(req.sub); err != nil {
		return withHost(err, req.sub.host())
	}
	if is.memory.current(req.sub) != nil {
		return nil // the limits must not prevent renewals
	}
	if err := is.gate.uncertifiable(req.sub.host(), req.grant); err != nil {
		return err
	}
	if req.grant.unlisted() && is.unlisted.all.Load() >= maxUnlisted {
		return &refusal{kind: ErrBusy, host: req.sub.host(), text: "too many hosts that are not on the list by name wait for issuance"}
	}
	if err := is.orders.mayOrder(req); err != nil {
		return err
	}
	if req.grant.trust != untrusted {
		return nil
	}
	return is.mayIssueUntrusted(req.sub)
}

func (is *issuer) mayIssueUntrusted(sub subject) error {
	host := sub.host()
	if is.unlisted.untrusted.Load() >= maxUntrusted {
		return &refusal{kind: ErrBusy, host: host, text: "too many hosts that are not on the list by name wait for issuance"}
	}
	if is.health.failures.last(sub) == nil { // a new name
		if wait, ok := is.unlisted.pacer.take(host, is.ran()); !ok {
			next := is.now().Add(wait)
			return &caRefusal{refusal{kind: ErrBusy, host: host, text: fmt.Sprintf("%d new names below %s got certificates recently, the next one is due %s; "+
				"exact names on Manager.Hosts are not paced", pace.DomainBurst, hosts.RegisteredDomain(host), text.Stamp(next))}, next}
		}
	}
	return nil
}
