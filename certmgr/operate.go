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

// operator does what an operator wants done at once.
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
}

// Obtain has a certificate for host in memory before it returns: from memory,
// from the Cache, or issued now, whatever backoff says. It joins an issuance
// that is in flight. It ends early with ctx, the issuance does not. The errors
// are those of GetCertificate and *IssuanceError.
func (m *Manager) Obtain(ctx context.Context, host string) error {
	s, host, g, err := m.operate(ctx, host)
	if err != nil {
		return err
	}
	want := wanted{first: bundle.ECDSA, other: true}
	if cert := s.memory.get(host, want, s.now()); cert != nil {
		return nil
	}
	_, err = s.loader.load(ctx, host, want, g)
	if !errors.Is(err, ErrCacheMiss) {
		return withHost(err, host)
	}
	return s.issueNow(ctx, hostSubject(host, bundle.ECDSA, s.dir), g, "Obtain")
}

// Renew issues a certificate for host now, whatever backoff says, for each key
// type that is in memory, or an ECDSA one. Until it succeeds the present one
// is served. It joins an issuance that is in flight. It ends early with ctx,
// the issuance does not. The errors are those of GetCertificate and
// *IssuanceError, joined.
func (m *Manager) Renew(ctx context.Context, host string) error {
	s, host, g, err := m.operate(ctx, host)
	if err != nil {
		return err
	}
	subs := []subject{hostSubject(host, bundle.ECDSA, s.dir)}
	if certs := s.memory.certificates(host); len(certs) > 0 {
		subs = subs[:0]
		for _, c := range certs {
			subs = append(subs, c.subject)
		}
	}
	errs := make([]error, len(subs))
	var wg sync.WaitGroup
	for i, sub := range subs {
		wg.Go(func() { errs[i] = s.issueNow(ctx, sub, g, "Renew") })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// operate is what the operator's calls have in common.
func (m *Manager) operate(ctx context.Context, name string) (*operator, string, grant, error) {
	s, host, err := m.operateOn(name)
	if err != nil {
		return nil, "", grant{}, err
	}
	d := s.gate.permit(ctx, host)
	return s, host, d.grant, d.err
}

// operateOn is operate for a host that need not be allowed.
func (m *Manager) operateOn(name string) (*operator, string, error) {
	m.init()
	host, err := normalizeHost(name)
	if err != nil {
		return nil, "", err
	}
	if m.engine.tasks.IsClosed() {
		return nil, "", &refusal{kind: ErrClosed, host: host}
	}
	return m.engine.operator, host, nil
}

// operatorError is why something that an operator wanted done was not, or not all
// of it. It wraps the causes.
type operatorError struct {
	what   string
	causes []error
}

// Error is one line of bounded length.
func (e *operatorError) Error() string {
	var texts []string
	for _, cause := range e.causes {
		texts = append(texts, strings.TrimPrefix(text.Of(cause), "certmgr: "))
	}
	return text.OneLine("certmgr: "+e.what+": "+strings.Join(texts, "; "), text.MaxError)
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

// goesOn makes the error of an operator who left say that the work did not end.
func goesOn(err error) error {
	if left, ok := err.(*flight.Left); ok {
		return fmt.Errorf("it goes on: %w", left.Cause)
	}
	return err
}

func (s *operator) issueNow(ctx context.Context, sub subject, g grant, reason string) error {
	call, err := s.issuer.begin(issueRequest{
		sub:      sub,
		grant:    g,
		reason:   reason,
		priority: withVisitor,
		override: true,
	}, nil)
	if err != nil {
		return withHost(err, sub.host())
	}
	_, err = call.Await(ctx)
	return err
}
