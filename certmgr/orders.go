package certmgr

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/account"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/order"
	"github.com/nostall/nostall/internal/probe"
	"github.com/nostall/nostall/internal/renewal"
	"github.com/nostall/nostall/internal/text"
)

// orders holds the conversations with the CA, one for each issuance.
type orders struct {
	*env
	ca         *acmeclient.CA
	accounts   *account.Registrar
	memory     *memory
	answers    *challenge.Answers
	checker    *probe.Checker
	calls      *flight.Callouts // attempts, which call user code too
	unfinished *orderStore
	budget     *orderBudget
	profiles   *profiles
	keys       *keySource
	clockOff   atomic.Bool // reported by an event
}

// conversation is the conversation with the CA for an issuance: one run of
// package order, or two if the account's key was changed meanwhile.
type conversation struct {
	*issuance
	types     []string // challenge types to try, in this order
	replaces  string   // CertID of the certificate to be renewed
	emit      func(audit.Event)
	preflight preflight.Mode
	checker   *probe.Checker
	checked   bool // by the preflight
	kept      *orderKeep
	cleanup   order.Cleanup
	key       crypto.Signer // of Manager.KeySource, or nil
	ofGroup   groupOrder
}

func (o *orders) newConversation(i *issuance) *conversation {
	failures := 0
	if i.last != nil {
		failures = i.last.err.Attempts
	}
	c := &conversation{
		issuance:  i,
		types:     o.answers.Worked.Pick(i.req.sub.id(), o.challengeTypes(), failures),
		emit:      func(e audit.Event) { o.audit.Emit(i.eventAbout(e.Host, e)) },
		preflight: o.settings.preflight,
		checker:   o.checker,
		kept:      newOrderKeep(o.unfinished, i),
		ofGroup:   groupOrder{names: i.req.group.names},
	}
	c.replaces = o.replaces(i.req.sub, i.last)
	return c
}

// challengeTypes returns the challenge types that can be answered, in the order
// in which to try them: http-01 goes first if the other is known to fail.
func (o *orders) challengeTypes() []string {
	types := o.settings.challengeTypes()
	if o.answers.Offer.IsLacking() {
		slices.Reverse(types)
	}
	return types
}

// replaces returns the CertID of the certificate that an order for sub is to
// replace, or "", given the last failure, if any.
func (o *orders) replaces(sub subject, last *failure) string {
	cert := o.memory.current(sub)
	if cert == nil || !cert.usable(o.now()) || !mayReplace(last) || o.authority.distrusts(cert) || cert.isShared() && !sub.group {
		return ""
	}
	return acmeclient.CertID(cert.leaf)
}

// mayReplace reports whether an order should have the replaces field, given the
// last failure, if any. After an order failed, the next one omits the field,
// since that may have caused the failure; but not after a rate limit, from
// which it would exempt the order, nor after a rejection, for the same reason.
func mayReplace(last *failure) bool {
	return last == nil || last.err.Stage != audit.StageOrder || last.err.State.isHeld() || acmeclient.IsRateLimited(last.err)
}

const (
	// attemptTimeout is the time-out of an attempt, once it has its issuance
	// slot, and before that of the wait for the slot.
	attemptTimeout = 3 * time.Minute

	// attemptGrace is how long an attempt may take to return its own error,
	// which says more than that it is late.
	attemptGrace = time.Second
)

// outcome is the result of an attempt. A certificate comes with its cache
// entry; with ErrClock there is one too.
type outcome struct {
	cert    *certificate
	data    []byte
	acc     *account.Account
	stage   audit.Stage // the last one
	order   string      // its URL
	profile string      // of the order, as the CA says, or ""
	entry   bool        // the Cache has an entry of the order
	names   []string    // of the last order; nil if the attempt has not ended
	left    []leaver
	err     error
}

// cause returns the failure. A wrong clock is not the CA's failure.
func (out outcome) cause() error {
	if errors.Is(out.err, ErrClock) {
		return nil
	}
	return out.err
}

// attempt holds the conversation with the CA, within attemptTimeout. The user's
// code takes part in it (Client.Key, RetryBackoff, HTTPClient), so that it is a
// callback that may panic or ignore its context. Its goroutine calls then when
// nothing of the attempt is left, which can be later; it does not if the
// attempt was not begun.
func (o *orders) attempt(ctx context.Context, i *issuance, then func()) (out outcome, begun bool) {
	ctx, cancel := flight.Within(ctx, attemptTimeout, "no certificate")
	defer cancel()
	ctx = acmeclient.WithTrace(ctx, i.trace)
	c := o.newConversation(i)
	out, err := flight.CallOutThen(ctx, o.calls, i.req.sub.String(), func(ctx context.Context) (outcome, error) {
		out := o.converse(ctx, c)
		out.stage = i.getStage()
		out.names, out.left = c.ofGroup.names, c.ofGroup.left
		return out, nil
	}, func() {
		defer then()
		// The next issuance for the host waits for that, as it uses the same
		// keys of the Cache. Each call is bounded by cacheTimeout, and Close
		// waits. Under a lease that was lost the entries may be another machine's.
		c.cleanup.Forget(guarded(context.Background(), ctx))
		c.kept.end(ctx)
	})
	if err != nil { // c may still be in use
		out = outcome{stage: i.getStage(), err: err}
	}
	if out.err != nil && ctx.Err() != nil {
		out.err = fmt.Errorf("%w%s: %w", context.Cause(ctx), lastURL(i.trace), out.err)
	}
	return out, !errors.Is(err, ErrBusy)
}

func lastURL(t *acmeclient.Trace) string {
	if u := t.FailedURL(); u != "" {
		return ", last request " + u
	}
	return ""
}

// converse gets the certificate. If the account's key was changed meanwhile, it
// starts again with the new one.
func (o *orders) converse(ctx context.Context, c *conversation) outcome {
	out := o.converseOnce(ctx, c)
	if out.err != nil && out.acc != nil && o.accounts.Outdated(ctx, out.acc, c.trace, out.err) {
		first := out.order
		out = o.converseOnce(ctx, c)
		out.order = cmp.Or(out.order, first)
	}
	for c.leave(out.err) {
		first := out.order
		out = o.converseOnce(ctx, c)
		out.order = cmp.Or(out.order, first)
	}
	if out.err != nil && out.acc != nil {
		out.err = o.accounts.Refused(ctx, out.acc, c.host(), out.err)
		if account.IsUnavailable(out.err) {
			c.enter(audit.StageAccount)
		}
	}
	return out
}

func (o *orders) converseOnce(ctx context.Context, c *conversation) outcome {
	o.warnOfPrivateAddresses(c.req.sub)
	c.enter(audit.StageAccount)
	if err := c.profile.failure; err != nil {
		return outcome{err: err}
	}
	acc, err := o.accounts.Get(ctx)
	if err != nil {
		return outcome{err: err}
	}
	client := o.ca.Client(acc.Key, acc.URL)
	unfinished, err := o.resume(ctx, c)
	if err != nil {
		return outcome{acc: acc, err: err}
	}
	res, err := order.Run(ctx, client, o.request(c, unfinished))
	err = o.profiles.explain(ctx, c.req.sub, err)
	out := outcome{acc: acc, order: res.OrderURL, profile: res.Profile}
	switch {
	case err != nil && res.Refuted && !c.req.sub.group:
		err = c.diagnose(ctx, err)
	case err == nil && o.memory.isBarred(res.Leaf):
		err = withdrawn(ctx, client, res.Leaf)
	}
	if err != nil {
		if res.Leaf != nil {
			c.kept.keep(ctx, nil)
		}
		if problems := text.Problems(err); len(problems) > 0 && problems[len(problems)-1].StatusCode == http.StatusNotFound {
			o.ca.Forget() // its resources may have moved
		}
		out.err = err
		return out
	}
	o.answers.Worked.Note(c.req.sub.id(), res.Worked)
	if res.NotOffered && res.Worked == challenge.HTTP01 {
		o.answers.Offer.Refused()
	}
	o.authority.hasIssued(res.Leaf)
	out.cert = newCertificate(c.req.sub, usersKey(res.Key), res.Chain, res.Leaf)
	out.cert.here = true
	if c.req.sub.group {
		out.cert.entry = groupCacheKey(c.ofGroup.names, c.req.sub.alg)
	}
	if out.data, err = bundle.Encode(res.Key, res.Chain); err != nil {
		out.cert, out.err = nil, err
		return out
	}
	out.entry = c.kept.succeed()
	out.err = o.checkDates(c, out.cert, res.Placed)
	return out
}

// request returns the order.Request for a conversation, which resumes an order if
// unfinished is not nil.
func (o *orders) request(c *conversation, unfinished *order.Unfinished) order.Request {
	sub := c.req.sub
	return order.Request{
		Names:      c.ofGroup.names,
		Algorithm:  sub.alg,
		Extra:      o.settings.extraExtensions,
		Replaces:   c.replaces,
		Unfinished: unfinished,
		Keep:       c.kept.keep,
		Key:        func(ctx context.Context, orderURL string) (crypto.Signer, error) { return o.key(ctx, c, orderURL) },
		Before: func(ctx context.Context) ([]string, error) {
			if err := o.takeKey(ctx, c); err != nil {
				return nil, err
			}
			err := c.precheck(ctx)
			return c.types, err
		},
		Accept: func(placed time.Time, chain [][]byte, leaf *x509.Certificate) error {
			return o.accept(sub, placed, chain, leaf)
		},
		Profile: func(ctx context.Context) (string, error) {
			want, err := o.profiles.listed(ctx, sub)
			return want.name, err
		},
		Order:    c.mayPlace(o.countOrder(c.issuance)),
		Usable:   o.settings.challengeTypes(),
		Present:  c.present(o.answers),
		Withdraw: o.answers.Withdraw,
		Stage:    c.enter,
		Event:    c.emit,
		Now:      o.now,
		Cleanup:  &c.cleanup,
	}
}

// accept returns why a new certificate must not take the place of the one in
// service, or nil. Without one, it is better than none, unless it has expired
// since its order was placed.
func (o *orders) accept(sub subject, placed time.Time, chain [][]byte, leaf *x509.Certificate) error {
	now := o.now()
	skew, _ := o.skew()
	have := o.memory.current(sub)
	switch {
	case hasExpired(leaf, placed, now, skew):
		return order.ErrExpired
	case have == nil || !have.usable(now):
		return nil
	case now.After(leaf.NotAfter):
		return fmt.Errorf("it ended at %s, by the clock here, and the one in service, which ends at %s, stays", text.Stamp(leaf.NotAfter), text.Stamp(have.notAfter))
	case bundle.LacksIssuer(chain, have.chain):
		return needsIssuer{have.notAfter}
	}
	return nil
}

// needsIssuer is the error of a certificate that came without the one of its issuer.
// It is better than none once the one in service has ended.
type needsIssuer struct{ served time.Time }

func (e needsIssuer) Error() string {
	return fmt.Sprintf("it came without the certificate of its issuer, which clients need, and the one in service, which ends at %s, stays", text.Stamp(e.served))
}

// inProgress is how long after it was placed an order is simply in progress if the
// CA asks to come back: an attempt that ends so does not count as a failure.
const inProgress = 10 * time.Minute

// comeBack returns when to resume an order that is in progress.
func (o *orders) comeBack(i *issuance, e *IssuanceError) (at time.Time, ok bool) {
	wait, asked := errors.AsType[*order.WaitError](e.Err)
	kept := o.unfinished.get(i.req.sub)
	if !asked || wait.Wait() == 0 || kept == nil || e.Time.Sub(kept.order.Created) >= inProgress {
		return time.Time{}, false
	}
	return e.Time.Add(wait.Wait()), true
}

// checkDates returns an error if the local clock cannot serve the new
// certificate, which is kept anyway. Its order was placed at the time placed, maybe
// days ago. Dates that do not fit are the local clock's fault, unless they do not
// fit the CA's clock either.
func (o *orders) checkDates(c *conversation, cert *certificate, placed time.Time) error {
	now := o.now()
	skew, known := o.skew()
	at := now.Add(skew)
	if fits := known || !cert.dates().IsAged(placed); fits && at.After(cert.notBefore) && at.Before(cert.notAfter) {
		cert.issued = at
	}
	behind, ahead := misfit(cert, now)
	if !behind && !ahead && !cert.dates().IsAged(now) {
		return nil
	}
	err := clockError(c.host(), cert, now)
	if behind, ahead := misfit(cert, now.Add(skew)); known && (behind || ahead) {
		err = datesError(c.host(), cert, now)
	}
	if !o.clockOff.Swap(true) {
		c.emit(audit.Event{
			Kind:     audit.ClockOff,
			Stage:    audit.StageFinalize,
			Serial:   serialOf(cert.leaf),
			NotAfter: cert.notAfter,
			Err:      err,
		})
	}
	if !ahead {
		return nil // it can be served: clients go by their own clocks
	}
	return err
}

// hasExpired reports whether a certificate was valid when its order was placed, and
// is not any more, by the CA's clock, which is skew ahead. One that was never valid
// tells of a wrong clock instead; the local one may have been set since.
func hasExpired(leaf *x509.Certificate, placed, now time.Time, skew time.Duration) bool {
	end := leaf.NotAfter.Add(-renewal.MinInterval)
	return end.After(placed.Add(min(skew, 0))) && !end.After(now.Add(skew))
}

// misfit reports whether a clock that says now is behind the dates of a new
// certificate, or too far ahead to serve it.
func misfit(cert *certificate, now time.Time) (behind, ahead bool) {
	return cert.notBefore.Sub(now) > maxSkew, !cert.usable(now.Add(renewal.MinInterval))
}

// withdrawn revokes a certificate whose key was revoked during its issuance.
func withdrawn(ctx context.Context, client *acme.Client, leaf *x509.Certificate) error {
	if err := client.RevokeCert(ctx, nil, leaf.Raw, acme.CRLReasonKeyCompromise); err != nil {
		return fmt.Errorf("%w; the CA does not revoke it: %w", errRevoked, acmeclient.Cause(err))
	}
	return errRevoked
}
