package certmgr

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

// RetryIssued returns a Manager.Issued that calls f. If f returns an error, the
// Manager reports it (audit.DeliveryFailed) and calls again later, with the
// certificate that is the newest then. Without RetryIssued, only a call that
// panics or takes too long has failed. Several such functions may be called
// within one Issued: if one of them fails, all are called again.
//
// If the context is not from a Manager, the error goes to slog.Default().
func RetryIssued(f func(ctx context.Context, cert *tls.Certificate) error) func(context.Context, *tls.Certificate) {
	return func(ctx context.Context, cert *tls.Certificate) {
		err := f(ctx, cert)
		if err == nil {
			return
		}
		if o, ok := ctx.Value(issuedKey{}).(*issuedOutcome); ok {
			o.fail(err)
			return
		}
		slog.Default().ErrorContext(ctx, "certmgr: a certificate was not delivered", "error", text.Of(err))
	}
}

type issuedKey struct{}

// issuedOutcome collects the errors of a call of Manager.Issued.
type issuedOutcome struct {
	mu   sync.Mutex
	errs []error
}

// maxIssuedErrors is how many errors of one call are kept.
const maxIssuedErrors = 4

func (o *issuedOutcome) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.errs) < maxIssuedErrors {
		o.errs = append(o.errs, err)
	}
}

func (o *issuedOutcome) err() error {
	o.mu.Lock()
	errs := slices.Clone(o.errs)
	o.mu.Unlock()
	return text.Join(errs...) // which may call methods of the errors
}

const (
	// issuedTimeout is the time-out of one call of Manager.Issued: enough to
	// restart a server, or for several requests to a balancer.
	issuedTimeout = time.Minute

	// maxIssuedCalls and maxIssuedRetries limit the calls that have not
	// returned. Those for certificates for which a call has failed have a limit
	// of their own, so that they do not delay others.
	maxIssuedCalls   = 6
	maxIssuedRetries = 2

	// minDeliveries is how many deliveries may wait before it is checked whether
	// their certificates are still in service.
	minDeliveries = 1024
)

// issuedWaits returns the waits after calls of Manager.Issued that failed in a
// row, the last of which repeats: a server that is being restarted is back in
// seconds, a disk that is full is not.
func issuedWaits() []time.Duration {
	return []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute, time.Hour}
}

// issuedCall calls Manager.Issued with a copy of the certificate.
func (d *deliveries) issuedCall(ctx context.Context, c *certificate) error {
	outcome := new(issuedOutcome)
	copied := c.copy()
	copied.Certificate = slices.Clone(copied.Certificate)
	d.settings.issued(context.WithValue(ctx, issuedKey{}, outcome), copied)
	return outcome.err()
}

// failed reports a call that failed, and sets when the next one is due.
func (d *deliveries) failed(it *delivery, c *certificate, err error) {
	it.failures++
	it.wait = pace.Backoff(issuedWaits(), it.failures)
	e := certEvent(audit.DeliveryFailed, c)
	e.Rule = "Issued"
	e.Reason = "the certificate is served; Manager.Issued will be called again"
	e.RetryAt = d.now().Add(it.wait)
	e.Err = err
	d.reports.report(c.subject.host(), e)
}

// succeeded reports a call that followed others that failed.
func (d *deliveries) succeeded(it *delivery, c *certificate) {
	if it.failures == 0 {
		return
	}
	it.failures = 0
	e := certEvent(audit.DeliveryRecovered, c)
	e.Rule = "Issued"
	d.audit.Emit(e)
}
