package certmgr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// operator implements the immediate operations: Obtain, Renew, Revoke and the
// like.
type operator struct {
	*env
	gate     *gate
	health   *health
	memory   *memory
	store    *store
	loader   *loader
	issuer   *issuer
	schedule *schedule
	revokes  *flight.Flight[string, struct{}]
	many     *manyReader
	prunes   *flight.Callouts
}

// Obtain returns once a certificate for host is in memory, loading or issuing
// one if necessary and ignoring backoff. It joins an issuance in flight. If ctx
// ends first, Obtain returns early; the issuance continues. The errors are
// those of GetCertificate and *IssuanceError. It returns nil at once for a host
// that has a certificate in Manager.Certificates. It is the call for prefetching,
// where programs on autocert call GetCertificate with a hello of their own.
func (m *Manager) Obtain(ctx context.Context, host string) error {
	s, host, err := m.operateOn(host)
	if err != nil {
		return err
	}
	if s.awaitOwn(ctx); s.hasOwn(host) {
		return nil
	}
	g, err := s.permit(ctx, host)
	if err != nil {
		return err
	}
	want := s.anyWant(host)
	if cert := s.memory.get(host, want, s.now()); cert != nil {
		return nil
	}
	_, err = s.loader.load(ctx, host, want, g)
	if !errors.Is(err, ErrCacheMiss) {
		return withHost(err, host)
	}
	if err := s.issueNow(ctx, s.preferred(host), g, behest{what: "Obtain"}); err != nil || s.memory.get(host, want, s.now()) != nil {
		return err
	}
	// It has left the order of its group.
	return s.issueNow(ctx, s.preferred(host), g, behest{what: "Obtain"})
}

// Renew issues a certificate for host now, ignoring backoff, for each key type
// in memory, or for the preferred one if there is none. Until it succeeds the current one
// is served. If it fails for a certificate that is valid and not due yet, the
// failure has no further effect: that one is renewed as planned. Renew joins an
// issuance in flight. If ctx ends first, Renew returns early; the issuance
// continues. The errors are those of GetCertificate and *IssuanceError, joined,
// and ErrOwnCertificate.
func (m *Manager) Renew(ctx context.Context, host string) error {
	s, host, g, err := m.operate(ctx, host)
	if err != nil {
		return err
	}
	return s.issueAll(ctx, s.renewable(host), g, behest{what: "Renew"})
}

// behest is what an operator had done, and who that was if it is known.
type behest struct{ what, actor string }

// reason returns the behest as the reason of an event.
func (b behest) reason() string {
	if b.actor == "" {
		return b.what
	}
	return b.what + " by " + b.actor
}

// renewable returns the subjects of host that Renew issues certificates for.
func (s *operator) renewable(host string) (subs []subject) {
	for _, c := range s.memory.certificates(host) {
		if !c.subject.group { // it may be a member's that has had none of its group yet
			subs = append(subs, s.subject(host, c.alg))
		} else {
			subs = append(subs, c.subject)
		}
	}
	if len(subs) == 0 {
		return []subject{s.preferred(host)}
	}
	return subs
}

// issueAll is issueNow for several subjects at once.
func (s *operator) issueAll(ctx context.Context, subs []subject, g grant, by behest) error {
	errs := make([]error, len(subs))
	var wg sync.WaitGroup
	for i, sub := range subs {
		wg.Go(func() { errs[i] = s.issueNow(ctx, sub, g, by) })
	}
	wg.Wait()
	return text.Join(errs...)
}

// wanting returns the subjects of host for which Act is to get a certificate: those
// that failed by themselves, or the preferred one if there is no valid certificate.
func (s *operator) wanting(host string) (subs []subject) {
	now, served := s.now(), false
	for alg := range bundle.Algorithm(bundle.Algorithms) {
		sub := s.subject(host, alg)
		if cert := at(s.memory, host, sub.alg); cert != nil && cert.usable(now) {
			served = true
		} else if rec := s.health.failures.last(sub); rec != nil && rec.err.KeyType == sub.alg.String() {
			subs = append(subs, sub)
		}
	}
	if served || len(subs) > 0 {
		return subs
	}
	return []subject{s.preferred(host)}
}

// retry looks for certificates in the Cache, and issues those that it does not
// have.
func (s *operator) retry(ctx context.Context, subs []subject, g grant, by behest) error {
	var missing []subject
	var errs []error
	for _, sub := range subs {
		// Where nothing is served, a certificate of the other type is as good.
		want := keyTypePrefs{first: sub.alg, can: allKeys}
		if s.memory.get(sub.host(), want, s.now()) != nil {
			want.can = classesOf(sub.alg)
		}
		_, err := s.loader.loadInTask(ctx, sub.host(), want, g)
		if errors.Is(err, ErrCacheMiss) {
			missing = append(missing, sub)
		} else if err != nil {
			errs = append(errs, withHost(err, sub.host()))
		}
	}
	return text.Join(append(errs, s.issueAll(ctx, missing, g, by))...)
}

// operate is the common part of the operations.
func (m *Manager) operate(ctx context.Context, name string) (*operator, string, grant, error) {
	s, host, err := m.operateOn(name)
	if err != nil {
		return nil, "", grant{}, err
	}
	s.awaitOwn(ctx)
	g, err := s.permit(ctx, host)
	return s, host, g, err
}

func (s *operator) permit(ctx context.Context, host string) (grant, error) {
	d := s.gate.permit(ctx, host)
	return d.grant, d.err
}

// operateOn is operate for a host that need not be allowed.
func (m *Manager) operateOn(name string) (*operator, string, error) {
	m.init()
	host, err := normalizeAny(name, noHost)
	if err != nil {
		return nil, "", err
	}
	if m.engine.tasks.IsClosed() {
		return nil, "", &refusal{kind: ErrClosed, host: host}
	}
	return m.engine.operator, host, nil
}

// operatorError says why an operation failed, entirely or in part. It wraps the
// causes.
type operatorError struct {
	what   string
	causes []error
}

// Error returns one line of bounded length.
func (e *operatorError) Error() string {
	var texts []string
	for _, cause := range e.causes {
		texts = append(texts, text.Cause(cause))
	}
	return text.Line("certmgr: "+e.what+": "+strings.Join(texts, "; "), text.MaxError)
}

func (e *operatorError) Unwrap() []error { return e.causes }

// operatorError returns nil if there are no causes.
func (s *operator) operatorError(what string, causes ...error) error {
	if len(causes) == 0 {
		return nil
	}
	if s.tasks.IsClosed() && !errors.Is(errors.Join(causes...), ErrClosed) {
		causes = append([]error{ErrClosed}, causes...)
	}
	return &operatorError{what, causes}
}

// goesOn makes the error of a caller that left say that the work continues.
func goesOn(err error) error {
	if left, ok := err.(*flight.Left); ok {
		return fmt.Errorf("it continues in the background: %w", left.Cause)
	}
	return err
}

func (s *operator) issueNow(ctx context.Context, sub subject, g grant, by behest) error {
	_, _, suggested := s.schedule.reason(sub)
	call, err := s.issuer.begin(issueRequest{
		sub:       sub,
		grant:     g,
		reason:    by.reason(),
		by:        by,
		priority:  withVisitor,
		suggested: suggested,
		override:  true,
	}, func() error {
		if s.memory.current(sub) != nil {
			return nil // it is renewed
		}
		if err := s.gate.uncertifiable(sub.host(), g); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		return withHost(err, sub.host())
	}
	_, err = call.Await(ctx)
	return err
}
