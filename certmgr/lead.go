package certmgr

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errHave stops an issuance before it begins: there is a certificate already.
type errHave struct{ cert *certificate }

func (errHave) Error() string { return "certmgr: certificate in memory" }

// lead begins an issuance, or joins the one that somebody else began since,
// and waits HandshakeWait for it.
func (s *stages) lead(ctx context.Context, sub subject, want wanted, g grant, who asker) (*certificate, error) {
	req := issueRequest{sub: sub, grant: g, reason: "handshake", asker: who, priority: withVisitor}
	if g.standing == open {
		req.priority = openVisitor
	}
	call, began, err := s.begin(req, func() error {
		if cert := s.memory.get(sub.host(), want, s.now()); cert != nil {
			return errHave{cert}
		}
		return s.mayIssue(req)
	})
	if have, ok := err.(errHave); ok {
		return have.cert, nil
	}
	if err != nil {
		return nil, withHost(err, sub.host())
	}
	if !began {
		return s.join(ctx, sub, call)
	}
	cert, err := call.waitFor(ctx, s.settings.handshakeWait)
	if err == errNotYet || errors.Is(err, ErrBusy) && !isDone(call.done) {
		return nil, inFlight(sub, call)
	}
	return cert, err
}

// begin starts an issuance unless one is in flight or check objects; check
// runs atomically with the decision and must not block.
func (s *stages) begin(req issueRequest, check func() error) (call *call[*certificate], began bool, err error) {
	count := func() error {
		if check != nil {
			if err := check(); err != nil {
				return err
			}
		}
		s.count(req.grant, 1)
		return nil
	}
	return s.issues.startIf(flightKey(req.sub), count, func(ctx context.Context, c *issueCall) (*certificate, error) {
		defer s.count(req.grant, -1)
		return s.issuer.issue(ctx, c, req)
	})
}

// count keeps the books of issuances in flight whose hosts a stranger may have
// chosen.
func (s *stages) count(g grant, n int32) {
	if g.standing == open {
		s.strangers.Add(n)
	}
	if g.unlisted() {
		s.unlisted.Add(n)
	}
}

// Bounds on the issuances in flight, queued ones included: for hosts that
// nobody vouched for, and for all that Hosts does not hold by their exact
// names, since a user's policy may allow everything too.
const (
	maxStrangers = 256
	maxUnlisted  = 1024
)

type issueCall = call[*certificate]

// flightKey tells subjects apart; it is shown in errors.
func flightKey(sub subject) string {
	return sub.host() + " (" + sub.keyType.String() + ")"
}

// mayIssue returns why nothing may be issued for req now, or nil. It is asked
// last, when nothing else speaks against it: a stranger's name spends a token.
func (s *stages) mayIssue(req issueRequest) error {
	now := s.now()
	if rec := s.failures.active(req.sub, now); rec != nil {
		return backingOff(rec)
	}
	if err := s.issuer.breaker.check(req.sub.host()); err != nil {
		return err
	}
	if s.memory.current(req.sub) != nil {
		return nil // strangers cannot keep a host that is established from its renewal
	}
	if req.grant.unlisted() && s.unlisted.Load() >= maxUnlisted {
		return &refusal{kind: ErrBusy, host: req.sub.host(), text: "too many hosts that are not on the list by name wait for issuance"}
	}
	if req.grant.standing != open {
		return nil
	}
	return s.mayIssueForStranger(req.sub, now)
}

func (s *stages) mayIssueForStranger(sub subject, now time.Time) error {
	host := sub.host()
	if s.strangers.Load() >= maxStrangers {
		return &refusal{kind: ErrBusy, host: host, text: "too many hosts that are not on the list by name wait for issuance"}
	}
	if s.failures.last(sub) == nil { // a new name
		if ok, next := s.pacer.take(host, now); !ok {
			return &caRefusal{refusal{kind: ErrBusy, host: host, text: fmt.Sprintf("%d new names below %s were issued for lately, the next one is due %s; "+
				"names on Manager.Hosts without a wildcard are not paced", paceBurst, registeredDomain(host), stamp(next))}, next}
		}
	}
	return nil
}
