package certmgr

import (
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

// issuance is one that is in flight, from its start to its outcome.
type issuance struct {
	id          string // ties its events together
	req         issueRequest
	requestedAt time.Time         // before any queue, by the monotonic clock
	trace       *acmeclient.Trace // of its requests to the CA

	// Others may look at these meanwhile.
	stage  atomic.Pointer[audit.Stage] // nil: it waits for its slot
	reread atomic.Int64                // when a visitor last had the cache read, in Unix nanoseconds

	// Those are its own goroutine's.
	last  *failure  // of the issuance before, or nil
	probe bool      // the breaker's: whether the CA works again
	began time.Time // when it got its slot, by the wall clock; zero before that
}

func newIssuance(req issueRequest) *issuance {
	return &issuance{
		id:          strings.ToLower(rand.Text()[:10]),
		req:         req,
		requestedAt: time.Now(),
		trace:       new(acmeclient.Trace),
	}
}

// issueCall is the call of an issuance.
type (
	issueCall   = flight.Call[subject, *certificate]
	issueTicket = flight.Ticket[subject, *certificate]
)

// issuanceOf returns what is in flight by a call.
func issuanceOf(c *issueCall) *issuance { return c.About.(*issuance) }

func (i *issuance) host() string { return i.req.sub.host() }

// event fills in whose event e is.
func (i *issuance) event(e audit.Event) audit.Event {
	sub := i.req.sub
	e.Host, e.KeyType, e.Attempt, e.CA = sub.host(), sub.keyType.String(), i.id, sub.ca
	return e
}

func (i *issuance) enter(s audit.Stage) { i.stage.Store(&s) }

func (i *issuance) getStage() audit.Stage {
	if s := i.stage.Load(); s != nil {
		return *s
	}
	return audit.StageQueue
}

// mayReread reports whether a visitor may have the cache read again while the
// issuance is in flight, and counts it as done.
func (i *issuance) mayReread(now time.Time) bool {
	last := i.reread.Load()
	since := now.UnixNano() - last
	if last == 0 {
		since = int64(now.Sub(i.requestedAt))
	}
	return (since < 0 || since >= int64(rereadEvery)) && i.reread.CompareAndSwap(last, now.UnixNano())
}

// begin starts an issuance unless one is in flight or check objects; check
// runs atomically with the decision and must not block.
func (is *issuer) begin(req issueRequest, check func() error) (issueTicket, error) {
	i := newIssuance(req)
	count := func() error {
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

// count counts an issuance in flight whose host the list does not hold by its exact
// name.
func (is *issuer) count(g grant, n int32) {
	if g.trust == untrusted {
		is.unlisted.untrusted.Add(n)
	}
	if g.unlisted() {
		is.unlisted.all.Add(n)
	}
}

// Bounds on the issuances in flight, queued ones included: for untrusted hosts,
// and for all that Hosts does not hold by their exact names, since a user's policy
// may allow everything too.
const (
	maxUntrusted = 256
	maxUnlisted  = 1024
)

// unlistedHosts bounds what is issued for hosts that Hosts does not hold by their exact
// names.
type unlistedHosts struct {
	pacer     *pacer       // of new untrusted names
	untrusted atomic.Int32 // issuances in flight for untrusted hosts
	all       atomic.Int32 // the same for all unlisted hosts
}

// mayIssue returns why nothing may be issued for req now, or nil. It is asked
// last, when nothing else speaks against it: a stranger's name spends a token.
func (is *issuer) mayIssue(req issueRequest) error {
	now := is.now()
	if rec := is.health.failures.active(req.sub, now); rec != nil {
		return backingOff(rec)
	}
	if err := is.health.breaker.check(req.sub.host()); err != nil {
		return err
	}
	if is.memory.current(req.sub) != nil {
		return nil // strangers cannot keep a host that is established from its renewal
	}
	if req.grant.unlisted() && is.unlisted.all.Load() >= maxUnlisted {
		return &refusal{kind: ErrBusy, host: req.sub.host(), text: "too many hosts that are not on the list by name wait for issuance"}
	}
	if req.grant.trust != untrusted {
		return nil
	}
	return is.mayIssueUntrusted(req.sub, now)
}

func (is *issuer) mayIssueUntrusted(sub subject, now time.Time) error {
	host := sub.host()
	if is.unlisted.untrusted.Load() >= maxUntrusted {
		return &refusal{kind: ErrBusy, host: host, text: "too many hosts that are not on the list by name wait for issuance"}
	}
	if is.health.failures.last(sub) == nil { // a new name
		if next, ok := is.unlisted.pacer.take(host, now); !ok {
			return &caRefusal{refusal{kind: ErrBusy, host: host, text: fmt.Sprintf("%d new names below %s were issued for lately, the next one is due %s; "+
				"names on Manager.Hosts without a wildcard are not paced", pace.DomainBurst, hosts.RegisteredDomain(host), text.Stamp(next))}, next}
		}
	}
	return nil
}
