package certmgr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Start loads every exact name in Hosts from the Cache, or has a certificate
// issued for it, in the background; it does not block. Failures are retried by
// the backoff for as long as the host is allowed. When ctx ends what Start
// began ends; handshakes and renewals go on until Close. It returns ErrClosed
// after Close.
func (m *Manager) Start(ctx context.Context) error {
	m.init()
	s := m.stages
	var hosts []string
	for name := range m.Hosts.All() {
		if !strings.HasPrefix(name, "*.") {
			hosts = append(hosts, name)
		}
	}
	slices.Sort(hosts)
	queue := make(chan string)
	feed := func(tasksCtx context.Context) {
		defer close(queue)
		for _, host := range hosts {
			select {
			case queue <- host:
			case <-ctx.Done():
				return
			case <-tasksCtx.Done():
				return
			}
		}
	}
	if !s.tasks.Go(feed) {
		return ErrClosed
	}
	for range min(len(hosts), warmers) {
		s.tasks.Go(func(tasksCtx context.Context) {
			for host := range queue {
				s.warm(tasksCtx, ctx, host)
			}
		})
	}
	return nil
}

// warmers is how many hosts Start brings into memory at the same time. It is
// more than MaxIssuing's default, because most are in the cache.
const warmers = 64

// warm has one host in memory, or leaves it to the renewals to try again.
func (s *stages) warm(ctx, start context.Context, host string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(start, cancel)()
	g, _, err := s.permit(ctx, host)
	if err != nil {
		return // taken off the list since
	}
	want := wanted{first: keyECDSA, other: true}
	sub := hostSubject(host, keyECDSA, s.dir)
	_, err = s.loader.load(ctx, host, want, g)
	if errors.Is(err, ErrCacheMiss) {
		req := issueRequest{sub: sub, grant: g, reason: "Start", priority: background}
		var call *call[*certificate]
		call, _, err = s.begin(req, func() error {
			if cert, _ := s.memory.get(host, want, s.now()); cert != nil {
				return errHave{cert}
			}
			return s.mayIssue(req)
		})
		if err == nil {
			_, err = call.await(ctx, nil)
		}
	}
	if _, ok := err.(errHave); err == nil || ok || ctx.Err() != nil {
		return
	}
	s.renewals.at(sub, s.retryAfterFailure(sub))
}

// retryAfterFailure returns when sub may be tried again in the background.
func (s *stages) retryAfterFailure(sub subject) time.Time {
	now := s.now()
	if rec := s.failures.active(sub, now); rec != nil {
		return rec.err.RetryAt
	}
	retry := now.Add(jitter(retryRenewal))
	if until, _, _ := s.issuer.breaker.state(); until.After(retry) {
		return until
	}
	return retry
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
	want := wanted{first: keyECDSA, other: true}
	if cert, _ := s.memory.get(host, want, s.now()); cert != nil {
		return nil
	}
	_, err = s.loader.load(ctx, host, want, g)
	if !errors.Is(err, ErrCacheMiss) {
		return withHost(err, host)
	}
	return s.issueNow(ctx, hostSubject(host, keyECDSA, s.dir), g, "Obtain")
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
	subs := []subject{hostSubject(host, keyECDSA, s.dir)}
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
func (m *Manager) operate(ctx context.Context, name string) (*stages, string, grant, error) {
	m.init()
	s := m.stages
	host, err := normalizeHost(name)
	if err != nil {
		return nil, "", grant{}, err
	}
	if s.tasks.isClosed() {
		return nil, "", grant{}, &refusal{kind: ErrClosed, host: host}
	}
	g, _, err := s.permit(ctx, host)
	return s, host, g, err
}

func (s *stages) issueNow(ctx context.Context, sub subject, g grant, reason string) error {
	call, _, err := s.begin(issueRequest{sub: sub, grant: g, reason: reason, priority: withVisitor, override: true}, nil)
	if err != nil {
		return withHost(err, sub.host())
	}
	_, err = call.await(ctx, nil)
	return err
}

// closeGrace is how long Close waits for callbacks whose context has ended.
const closeGrace = 5 * time.Second

// Close ends all background work: issuances, renewals, cache writes, and then
// waits for their goroutines and for the events to be delivered. Certificates
// in memory are served on; nothing new begins, and everything else returns
// ErrClosed. Callbacks that ignore the end of their context are named in the
// error after 5 s. Closing again does nothing more and returns nil.
func (m *Manager) Close() error {
	m.init()
	s := m.stages
	if s.tasks.isClosed() {
		return nil
	}
	s.unwatch()
	idle := s.tasks.close()
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	var errs []error
	select {
	case <-idle:
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("certmgr: close: background work has not ended: %w", ctx.Err()))
	}
	for _, c := range s.callouts {
		errs = append(errs, c.wait(ctx))
	}
	s.audit.reportRefused()
	s.audit.emit(Event{Kind: EventClosed, CA: s.dir})
	errs = append(errs, s.audit.flush(ctx))
	return errors.Join(errs...)
}
