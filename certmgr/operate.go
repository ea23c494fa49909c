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
	if ctx == nil {
		panic("certmgr: Start with a nil context")
	}
	var hosts []string
	for name := range m.Hosts.All() {
		if !strings.HasPrefix(name, "*.") {
			hosts = append(hosts, name)
		}
	}
	slices.Sort(hosts)
	ok := s.tasks.Go(func(tasksCtx context.Context) {
		tasksCtx, cancel := context.WithCancel(tasksCtx)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		// What is in the cache does not wait for what is to be issued.
		var mu sync.Mutex
		var missing []string
		s.eachHost(tasksCtx, hosts, func(host string) {
			if s.preload(tasksCtx, host) {
				mu.Lock()
				defer mu.Unlock()
				missing = append(missing, host)
			}
		})
		s.eachHost(tasksCtx, missing, func(host string) { s.warm(tasksCtx, host) })
	})
	if !ok {
		return ErrClosed
	}
	return nil
}

// warmers is how many hosts Start brings into memory at the same time.
const warmers = 64

// eachHost calls f for each of hosts, for some at the same time, until ctx ends.
func (s *stages) eachHost(ctx context.Context, hosts []string, f func(host string)) {
	queue := make(chan string)
	var wg sync.WaitGroup
	for range min(len(hosts), warmers) {
		wg.Go(func() {
			for host := range queue {
				f(host)
			}
		})
	}
	defer wg.Wait()
	defer close(queue)
	for _, host := range hosts {
		select {
		case queue <- host:
		case <-ctx.Done():
			return
		}
	}
}

// preload loads a host and reports whether the cache has no certificate for it.
func (s *stages) preload(ctx context.Context, host string) (missing bool) {
	g, _, err := s.permit(ctx, host)
	if err != nil {
		return false // taken off the list since
	}
	_, err = s.loader.load(ctx, host, wanted{first: keyECDSA, other: true}, g)
	if err != nil && !errors.Is(err, ErrCacheMiss) && ctx.Err() == nil {
		sub := hostSubject(host, keyECDSA, s.dir)
		s.renewals.at(sub, s.retryAfterFailure(sub))
	}
	return errors.Is(err, ErrCacheMiss)
}

// warm has a certificate issued for a host that has none, or leaves it to the
// renewals to try again.
func (s *stages) warm(ctx context.Context, host string) {
	g, _, err := s.permit(ctx, host)
	if err != nil {
		return // taken off the list since
	}
	want := wanted{first: keyECDSA, other: true}
	sub := hostSubject(host, keyECDSA, s.dir)
	req := issueRequest{sub: sub, grant: g, reason: "Start", priority: background}
	call, _, err := s.begin(req, func() error {
		if cert := s.memory.get(host, want, s.now()); cert != nil {
			return errHave{cert}
		}
		return s.mayIssue(req)
	})
	if err == nil {
		_, err = call.await(ctx, nil)
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
	if cert := s.memory.get(host, want, s.now()); cert != nil {
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
// error after 5 s, and so is an Audit that does not return within 5 s more. Closing again waits for the first call and returns nil.
func (m *Manager) Close() error {
	m.init()
	s := m.stages
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	if s.closing.Swap(true) {
		select { // another Close is at it
		case <-s.closed:
		case <-ctx.Done():
		}
		return nil
	}
	defer close(s.closed)
	s.unwatch()
	idle := s.tasks.close()
	var errs []error
	select {
	case <-idle:
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("certmgr: close: background work has not ended: %w", ctx.Err()))
	}
	for _, c := range s.callouts {
		errs = append(errs, c.wait(ctx))
	}
	errs = append(errs, s.issuer.ca.Wait(ctx))
	s.audit.reportRefused("", nil)
	s.audit.emit(Event{Kind: EventClosed, CA: s.dir})
	flush, cancelFlush := context.WithTimeout(context.Background(), closeGrace)
	defer cancelFlush()
	errs = append(errs, s.audit.flush(flush))
	return errors.Join(errs...)
}
