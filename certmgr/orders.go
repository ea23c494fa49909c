package certmgr

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/renewal"
	"github.com/nostall/nostall/internal/text"
)

// orders holds the conversations with the CA, one for each attempt.
type orders struct {
	*env
	ca         *acmeclient.CA
	accounts   *registrar
	memory     *memory
	answers    *challenge.Answers
	preflight  *preflight
	calls      *flight.Callouts // attempts, which run the user's code too
	lastWorked challenge.Memory
	unfinished unfinishedOrders
	clockOff   atomic.Bool // said by an event
}

// newAttempt returns an attempt at what an issuance is to have.
func (o *orders) newAttempt(i *issuance) *attempt {
	req := i.req
	a := &attempt{
		id:       newAttemptID(),
		host:     req.sub.host(),
		sub:      req.sub,
		extra:    o.settings.extraExtensions,
		kept:     func() crypto.Signer { return o.keptKey(req.sub) },
		present:  o.answers.Present,
		setStage: i.setStage,
		now:      o.now,
		trace:    new(acmeclient.Trace),
		wanted:   i.since,
	}
	a.audit = func(e audit.Event) {
		e.Host, e.KeyType, e.Attempt, e.CA = a.host, a.sub.keyType.String(), a.id, o.dir
		o.audit.Emit(e)
	}
	if o.settings.preflight != PreflightOff {
		a.preflight = o.preflight
	}
	return a
}

// attemptGrace is what an attempt has to come back after its time is over: its error
// says more than that it is late.
const attemptGrace = time.Second

// attempt holds the conversation with the CA, within attemptTimeout. The
// user's code takes part in it (Client.Key, RetryBackoff, HTTPClient), so that
// it is a callback that may panic or ignore its context. let is called when
// nothing of the attempt is left, which can be later.
func (o *orders) attempt(ctx context.Context, i *issuance, a *attempt, let func()) outcome {
	ctx, cancel := flight.Within(ctx, attemptTimeout, "no certificate")
	defer cancel()
	ctx = acmeclient.WithTrace(ctx, a.trace)
	out, err := flight.CallOut(ctx, o.calls, i.req.sub.String(), func(ctx context.Context) (outcome, error) {
		defer o.cleanUp(a, let)
		out := o.converse(ctx, a)
		out.stage, out.order = a.stage, a.order
		return out, nil
	})
	if errors.Is(err, ErrBusy) {
		let() // it did not begin
	}
	if err != nil { // a's fields may still be in use, but for those that are safe
		out = outcome{stage: i.getStage(), err: err}
	}
	if out.err != nil && ctx.Err() != nil {
		out.err = fmt.Errorf("%w%s: %w", context.Cause(ctx), lastURL(a.trace), out.err)
	}
	return out
}

func lastURL(t *acmeclient.Trace) string {
	if u := t.FailedURL(); u != "" {
		return ", last request " + u
	}
	return ""
}

// converse has the certificate issued. If the account's key was changed while it
// was at it, it begins anew with the new one.
func (o *orders) converse(ctx context.Context, a *attempt) outcome {
	replaces := a.replaces
	out := o.converseOnce(ctx, a)
	if out.err != nil && out.acc != nil && o.accounts.outdated(ctx, out.acc, a.trace, out.err) {
		a.replaces = replaces
		out = o.converseOnce(ctx, a)
	}
	if isAccountGone(out.err) {
		o.accounts.forget(out.acc)
	}
	return out
}

func (o *orders) converseOnce(ctx context.Context, a *attempt) outcome {
	a.enter(audit.StageAccount)
	acc, err := o.accounts.get(ctx)
	if err != nil {
		return outcome{err: err}
	}
	a.client = o.ca.Client(acc.key, acc.url)
	a.unfinished = o.unfinished.take(a.sub, acc.url, o.now())
	key, chain, leaf, err := a.run(ctx)
	o.unfinished.put(a.sub, a.unfinished)
	if err == nil && o.memory.isBarred(leaf) {
		err = withdrawn(ctx, a.client, leaf)
	}
	if err != nil {
		if problems := text.Problems(err); len(problems) > 0 && problems[len(problems)-1].StatusCode == http.StatusNotFound {
			o.ca.Forget() // its resources may have moved
		}
		return outcome{acc: acc, err: err}
	}
	o.lastWorked.Note(a.host, a.worked)
	cert, data, err := o.keep(a, key, chain, leaf)
	return outcome{cert: cert, data: data, acc: acc, err: err}
}

// cleanUp leaves nothing behind at the CA and in the Cache, detached from the
// attempt, whose time may be over. The next issuance for the host waits for
// that, as it uses the same keys of the Cache.
func (o *orders) cleanUp(a *attempt, let func()) {
	forget := func() {
		for _, f := range a.cleanup {
			f(context.Background()) // bounded by cacheTimeout; Close waits
		}
	}
	ok := o.tasks.Go(func(ctx context.Context) {
		defer let()
		forget()
		if len(a.pending) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, deactivateTimeout)
		defer cancel()
		flight.CallOut(ctx, o.calls, "deactivation "+a.id, func(ctx context.Context) (struct{}, error) {
			a.deactivate(ctx)
			return struct{}{}, nil
		})
	})
	if !ok { // closed; this goroutine is one that Close waits for
		forget()
		let()
	}
}

// keep makes what the CA issued ready to be kept. Dates that do not fit the
// local clock are the clock's fault: the certificate is kept all the same.
func (o *orders) keep(a *attempt, key crypto.Signer, chain [][]byte, leaf *x509.Certificate) (*certificate, []byte, error) {
	cert := newCertificate(a.sub, key, chain, leaf)
	data, err := bundle.Encode(key, chain)
	if err != nil {
		return nil, nil, err
	}
	now := o.now()
	behind, ahead := now.Before(cert.notBefore), !cert.usable(now.Add(renewal.MinInterval))
	if !behind && !ahead && !cert.dates().IsAged(now) {
		return cert, data, nil
	}
	err = clockError(a.host, cert, now)
	o.clockOff.Store(true)
	a.audit(audit.Event{
		Kind:     audit.ClockOff,
		Stage:    audit.StageFinalize,
		Serial:   serialOf(leaf),
		NotAfter: cert.notAfter,
		Err:      err,
	})
	if !ahead {
		err = nil // it can be served: clients go by their own clocks
	}
	return cert, data, err
}

// keptKey returns the key for the next certificate of a subject if it is to stay
// (Manager.KeepKey), or nil.
func (o *orders) keptKey(sub subject) crypto.Signer {
	if !o.settings.keepKey {
		return nil
	}
	if cert := o.memory.current(sub); cert != nil {
		return cert.key
	}
	return nil
}
