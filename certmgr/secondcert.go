package certmgr

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// seconds gets second certificates, of the key type that clients prefer. The
// first client of all may need RSA: a scanner, say. That must not decide what
// all others get, since signing with RSA costs about 30 times as much. So for a
// client that takes ECDSA and was served RSA, ECDSA is sought in the background:
// in the Cache, then from the CA. The same goes for RSA where that is preferred.
type seconds struct {
	*env
	gate   *gate
	health *health
	memory *memory
	loader *loader
	issuer *issuer

	inFlight atomic.Int32
}

const (
	// seekEvery is how often a certificate of the preferred key type is sought
	// for a host. What failed is not issued before the end of its backoff.
	seekEvery = time.Minute

	// seekRarely is the same where only the Cache is asked: for untrusted hosts,
	// and before the first renewal since a change of the setting.
	seekRarely = 24 * time.Hour

	// maxSeconds is the largest number of second certificates that are issued at
	// the same time. Further ones are sought again when a client comes.
	maxSeconds = 8
)

// takeSeek reports whether a certificate of the preferred key type should be
// sought now, in Unix seconds, in place of one that was served.
func (e *hostEntry) takeSeek(in *certificate, now int64) bool {
	every := seekEvery
	if e.trust == untrusted || in.isSettled() {
		every = seekRarely
	}
	at := e.sought.Load()
	since := now - at
	return (at == 0 || since < 0 || since >= int64(every/time.Second)) && e.sought.CompareAndSwap(at, now)
}

// seek returns the algorithm that a client needs that can verify these keys. If
// it was served the other one, a certificate is sought in the background.
func (s *seconds) seek(host string, can keyClasses, was bundle.Algorithm, now time.Time) bundle.Algorithm {
	e := s.memory.hosts.Get(host)
	need := s.wantOf(host, can, e).first
	if need == was || e == nil || e.certs[was] == nil {
		return need
	}
	if e.takeSeek(e.certs[was], now.Unix()) {
		s.tasks.Go(func(ctx context.Context) { s.find(ctx, s.subject(host, need), e.trust) })
	}
	return need
}

// isSettled reports whether no second certificate is issued beside this one until
// it was renewed. RSA is preferred only by a setting, whose change applies at the
// next renewal; this certificate may be from before. ECDSA does not wait for
// that: whoever takes it should not cost an RSA signature.
func (c *certificate) isSettled() bool { return c.alg == bundle.ECDSA && !c.here }

// find loads the certificate, or issues it for a trusted host.
func (s *seconds) find(ctx context.Context, sub subject, t trust) {
	if !s.loader.missedLately(sub) {
		if _, err := s.loader.read(ctx, sub, grant{trust: t}, quietly); !errors.Is(err, ErrCacheMiss) {
			return
		}
	}
	if t == untrusted {
		return
	}
	d := s.gate.permitInTask(ctx, sub.host(), nil)
	if d.is != audit.Allowed || d.grant.trust == untrusted {
		return
	}
	if _, err := s.loader.recall(ctx, sub, d.grant); errors.Is(err, ErrCacheMiss) {
		s.issue(ctx, sub, d.grant)
	}
}

// issue issues the certificate, unless something more important is to be done.
// Then it is left to the next client who takes it.
func (s *seconds) issue(ctx context.Context, sub subject, g grant) {
	defer s.inFlight.Add(-1)
	if s.inFlight.Add(1) > maxSeconds {
		return
	}
	req := issueRequest{
		sub:      sub,
		grant:    g,
		reason:   "clients take " + sub.alg.String(),
		priority: secondary,
		second:   true,
	}
	call, err := s.issuer.begin(req, func() error {
		if err := s.mayIssue(sub); err != nil {
			return err
		}
		return s.issuer.mayIssue(req)
	})
	if err == nil {
		call.Await(ctx) // its failure was reported
	}
}

// mayIssue returns an error if there is no first certificate, or it is to be
// renewed, or somebody waits for the CA. It does not block.
func (s *seconds) mayIssue(sub subject) error {
	first := s.memory.current(sub.withAlgorithm(1 - sub.alg))
	if s.memory.current(sub) != nil || first == nil || first.isSettled() || s.issuer.keeper.notDueBefore(first.subject).IsZero() {
		return errNotSecond
	}
	if _, queued := s.issuer.slots.Load(); queued > 0 || s.health.breaker.state().failures > 0 {
		return ErrBusy
	}
	return nil
}

// errNotSecond: the host has both certificates, or another one to be issued.
var errNotSecond = errors.New("certmgr: not the time for a second certificate")
