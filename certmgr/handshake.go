package certmgr

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
)

// server answers handshakes and http-01 requests.
type server struct {
	*env
	gate       *gate
	health     *health
	memory     *memory
	store      *store
	loader     *loader
	issuer     *issuer
	seconds    *seconds
	answers    *challenge.Answers
	handshakes *handshakes
	visits     *visits
	rest       *flight.Flight[cacheRead, struct{}] // of handshakes that did not wait
}

// GetCertificate implements tls.Config.GetCertificate: it returns a certificate
// for hello.ServerName, or answers a tls-alpn-01 challenge. Only the handshake
// that begins an issuance waits for a CA. Every other handshake gets a
// certificate that is valid now, or an error that says why there is none and
// when the next attempt is due:
//
//   - ErrNoServerName, ErrBadServerName if the name is not a host name;
//   - ErrHostNotAllowed, or HostPolicy's error unchanged, except about the
//     address of a client without SNI;
//   - ErrInFlight while a certificate is being issued;
//   - ErrBackoff with an *IssuanceError after an issuance failed, or, with
//     ErrUnreachable, while the host waits for DNS (preflight.Enforce);
//   - ErrCAUnavailable while the CA as a whole fails;
//   - ErrCache if the Cache cannot be read; ErrKeySource if the private key for
//     what is in it cannot be had; ErrBusy if a limit was reached;
//   - ErrClosed after Close, for certificates that are not in memory.
//
// The text of these errors has at most 200 bytes, since servers log it for each
// client; that of HostPolicy is not changed. What they wrap says more.
//
// A certificate in memory is returned at once. All that a handshake waits for,
// HostPolicy, the Cache and an issuance, takes at most HandshakeWait together,
// and the answer to a challenge 10.2 s. All waits also end with hello.Context().
// What has begun goes on without the handshake.
//
// To have a certificate before its first visitor, call Obtain. A hello made for
// that has no context: if the call begins the issuance, it waits for its end, as
// autocert's does, but at most 5 minutes; if HandshakeWait is set, that long. A
// call that finds an issuance in flight gets ErrInFlight like any other, at once
// or after InFlightWait. Such calls count against MaxWaiting. hello.Conn may be
// nil, or a dummy.
//
// A client that sends no SNI, or an IP address as SNI, gets the certificate of
// the address that it connected to (hello.Conn.LocalAddr, by PublicAddrs), if
// Hosts or HostWhitelist has it; a client without SNI gets that of DefaultHost
// otherwise. An address as SNI must be the one that the client connected to, or
// DefaultHost.
//
// The certificate is the caller's own copy. GetCertificate is safe for
// concurrent use.
//
// A server that uses GetCertificate without TLSConfig must add "acme-tls/1" to
// tls.Config.NextProtos for tls-alpn-01, or serve HTTPHandler for http-01. It
// must also call MayResume, or turn off session tickets: a resumed session
// requests no certificate.
func (m *Manager) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	m.init()
	s := m.engine.server
	host, entry, err := s.memory.lookUp(hello.ServerName)
	if err != nil || entry != nil && entry.address {
		host, entry, err = s.unnamedHost(hello, err)
	}
	if err != nil {
		if cert := ownForBadName(s, hello); cert != nil {
			return cert, nil
		}
		s.handshakes.refuse(resultOf(err), "", err, hello, s.now())
		return nil, brief(err)
	}
	if isChallenge(hello) {
		return s.answerChallenge(hello, s.challengedHost(host))
	}
	can := verifiable(hello)
	now := s.now()
	hot := entry.hot(can, now)
	if s.own != nil {
		if cert := s.own.serve(hello, host, can, hot); cert != nil {
			return cert, nil
		}
	}
	if hot != nil && s.gate.stillAllowed(host, entry, now, hello) {
		need := hot.alg
		if need != entry.first {
			need = s.seconds.seek(host, can, need, now)
		}
		if s.noteVisit(host, entry, need, now) {
			s.answers.Offer.Saw(hello)
		}
		return s.handshakes.served(resServed, hot.copy()), nil
	}
	hs := s.newHandshake(hello, host, s.wantOf(host, can, entry))
	if cert, err := s.own.await(hs); cert != nil {
		return cert, nil
	} else if err != nil {
		s.refuse(resultOf(err), host, err, hello, s.now())
		return nil, brief(err)
	}
	cert, refused, err := s.serve(contextOf(hello), hs)
	if refused == resFallback {
		return serveFallback(s, hello, host, err), nil
	}
	if err != nil {
		if hello.ServerName == "" {
			refused, err = refusedUnnamed(s.settings, refused, host, err)
		}
		s.refuse(refused, host, err, hello, s.now()) // it may have waited
		return nil, err
	}
	s.seconds.seek(host, can, cert.alg, s.now())
	return s.handshakes.served(resServed, cert.copy()), nil
}

// noteVisit records a handshake for a host in memory that needs a key type, for
// the sake of the cores once in a while only. It reports whether it did.
func (s *server) noteVisit(host string, e *hostEntry, alg bundle.Algorithm, now time.Time) bool {
	if !e.takeVisit(alg, now.Unix()) {
		return false
	}
	s.visits.noteAsked(host, alg, grant{trust: e.trust}, now)
	return true
}

// refuse counts a refused handshake for a valid host name.
func (s *server) refuse(r result, host string, err error, hello *tls.ClientHelloInfo, now time.Time) {
	s.handshakes.refuse(r, host, inFull(err), hello, now)
	if r.ofAllowedHost() {
		s.visits.noteRefused(host)
	}
}

// answerChallenge is GetCertificate for a CA's handshake.
func (s *server) answerChallenge(hello *tls.ClientHelloInfo, host string) (*tls.Certificate, error) {
	s.answers.Offer.Saw(hello)
	cert, err := s.challengeCertificate(contextOf(hello), host, hello)
	if err != nil {
		s.refuse(resultOf(inFull(err)), host, err, hello, s.now())
		return nil, err
	}
	return s.handshakes.served(resChallenge, cert), nil
}

func contextOf(hello *tls.ClientHelloInfo) context.Context {
	if ctx := hello.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

// serve is the path of a handshake that memory alone cannot answer: policy,
// load, failure, issue. Each step may take its time, so what was known before
// it counts no more after it. The error is for the client.
func (s *server) serve(ctx context.Context, hs handshake) (cert *certificate, refused result, err error) {
	if s.tasks.IsClosed() {
		if cert := s.vouched(hs); cert != nil {
			return cert, resServed, nil
		}
		return nil, resClosed, brief(&refusal{kind: ErrClosed, host: hs.host})
	}
	var waitedFor *certificate
	lacking := false
	for began := hs.began; ; began = time.Now() {
		d := s.permit(ctx, hs, began)
		switch d.is {
		case audit.Refused:
			return nil, d.result(), s.refused(hs.host, d)
		case audit.Undecided:
			cert, err := s.serveUndecided(hs, d, waitedFor)
			return cert, d.result(), err
		}
		s.visits.noteAsked(hs.host, hs.want.first, d.grant, s.now())
		if hs.hello != nil {
			s.answers.Offer.Saw(hs.hello)
		}
		if cert := s.memory.get(hs.host, hs.want, s.now()); cert != nil {
			return cert, resServed, nil
		}
		cert, err := s.find(ctx, hs, d.grant)
		if cert != nil && !cert.covers(hs.host) {
			if lacking {
				err = &refusal{kind: ErrBackoff, host: hs.host, text: "its group got a certificate without it; try again"}
				return nil, resultOf(err), brief(err)
			}
			lacking = true
			continue // it has left the order of its group, and is a host by itself
		}
		if cert != nil && s.isServable(cert) && s.gate.isCurrent(hs.host, d.grant) || err != nil && err != errNotCurrent {
			err = withHost(err, hs.host)
			return cert, resultFor(s, hs, d.grant, err), brief(err)
		}
		waitedFor = cert // the list has changed, or there was a revocation
	}
}

// resultFor returns the result of a handshake that may get the fallback in place
// of an error. The permission may have ended while it waited.
func resultFor(s *server, hs handshake, g grant, err error) result {
	r := resultOf(err)
	if err != nil && r.mayFallBack() && s.settings.fallback.isValid(s.now()) && s.gate.isCurrent(hs.host, g) {
		return resFallback
	}
	return r
}

// refused returns the error of a host that list and policy refuse.
func (s *server) refused(host string, d decision) error {
	s.health.failures.forgetHost(host)
	s.gate.refuseHost(host, d.err)
	endIssuances(s.issuer, host, func() *refusal { return refusedMeanwhile(host, d.err) })
	return d.shown()
}

// serveUndecided is serve while the policy fails: valid certificates stay in
// service. waitedFor is one whose host the list no longer holds, or nil.
func (s *server) serveUndecided(hs handshake, d decision, waitedFor *certificate) (*certificate, error) {
	s.gate.policy.report(hs.host, d.err)
	if cert := s.vouched(hs); cert != nil {
		if d.own || errors.Is(d.err, ErrPolicy) { // and not because this client left
			s.memory.markUndecided(hs.host, s.now())
		}
		return cert, nil
	}
	if waitedFor != nil && s.isServable(waitedFor) {
		return waitedFor, nil
	}
	return nil, d.shown()
}

// errNotCurrent: the host is no longer allowed by what it was allowed by. The
// policy may allow it.
var errNotCurrent = errors.New("certmgr: the host's permission has ended meanwhile")

// isServable reports whether a certificate is valid and not revoked.
func (s *server) isServable(cert *certificate) bool {
	return cert.usable(s.now()) && !s.memory.isBarred(cert.leaf)
}

// vouched returns a certificate in memory that HostPolicy vouched for, or nil.
func (s *server) vouched(hs handshake) *certificate {
	if !s.memory.isAllowedByPolicy(hs.host) {
		return nil
	}
	return s.memory.get(hs.host, hs.want, s.now())
}

// find finds a certificate for a host that is allowed and has none in memory:
// it is loaded, or issued.
func (s *server) find(ctx context.Context, hs handshake, g grant) (*certificate, error) {
	cert, done, err := s.answerWithoutIssuing(ctx, s.subject(hs.host, hs.want.first), hs, g)
	if !done {
		cert, err = s.load(ctx, hs, g)
		if errors.Is(err, ErrCacheMiss) {
			hs.want = s.wantOf(hs.host, hs.want.can, s.memory.hosts.Get(hs.host)) // it may not fit what was loaded
			cert, err = s.lead(ctx, s.subject(hs.host, hs.want.first), hs, g)
		}
	}
	return cert, err
}

// withHost adds the host to an error of a stage that knows only keys.
func withHost(err error, host string) error {
	if err == nil {
		return nil
	}
	if err == ErrClosed {
		return &refusal{kind: ErrClosed, host: host}
	}
	switch e := err.(type) {
	case *flight.Busy:
		return &refusal{
			kind:  ErrBusy,
			host:  host,
			text:  e.What,
			since: e.Since,
			cause: e.Cause,
		}
	case *refusal:
		if _, named := e.cause.(*IssuanceError); e.host == "" && !named {
			named := *e
			named.host = host
			return &named
		}
	}
	return err
}

// answerWithoutIssuing answers for a host that the cache has no certificate for
// as far as this process knows, if nothing may be issued: it is in flight,
// backing off, or the CA is. done is false if there is no such answer.
func (s *server) answerWithoutIssuing(ctx context.Context, sub subject, hs handshake, g grant) (cert *certificate, done bool, err error) {
	if call := s.issuer.issues.Running(sub); call != nil {
		if i := issuanceOf(call); i.holder() == "" && i.mayReread(s.now()) {
			s.rereadInBackground(sub, hs.want, g)
		}
		cert, err = s.join(ctx, hs, call)
		return cert, true, err
	}
	if err := s.refuseWaiting(sub, hs, g); err != nil {
		return nil, true, err
	}
	if rec := s.health.failures.active(sub, s.now()); rec != nil {
		if s.health.failures.mayRead(rec, s.now()) {
			s.rereadInBackground(sub, hs.want, g)
		}
		return nil, true, backingOff(rec)
	}
	if !s.loader.missedLately(sub) {
		return nil, false, nil
	}
	if err := s.gate.uncertifiable(sub.host(), g); err != nil {
		return nil, true, err
	}
	err = s.health.refuse(visitorRequest(sub, g))
	return nil, err != nil, err
}

func backingOff(rec *failure) error {
	return &refusal{kind: ErrBackoff, cause: rec.err}
}

// rereadInBackground looks for a certificate that another machine may have
// written meanwhile.
func (s *server) rereadInBackground(sub subject, want keyTypePrefs, g grant) {
	s.tasks.Go(func(ctx context.Context) {
		for _, alg := range want.types() {
			if cert, _ := s.loader.read(ctx, sub.withAlgorithm(alg), g, quietly); cert != nil && cert.class&want.can != 0 {
				s.health.failures.forget(sub)
				return
			}
		}
	})
}
