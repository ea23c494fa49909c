package certmgr

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/nostall/nostall/internal/bundle"
)

// serve returns the operator's own certificate for a client, or nil if there
// is none. host may be a name that no public CA could certify. hot is what
// memory has for the client, or nil. It does not block, and is called only if
// there is a source.
func (o *owned) serve(hello *tls.ClientHelloInfo, host string, can keyClasses, hot *served) *tls.Certificate {
	x := o.index.Load()
	if x == nil {
		return nil
	}
	now := o.now()
	c, fits := x.find(host, hello, can, now)
	if c == nil || !fits && hot != nil {
		return nil
	}
	o.noteVisit(x, host, can, now)
	return o.handshakes.served(resServed, c.copy())
}

// await is serve for a handshake that memory cannot answer: it waits for
// the source's first answer, as it would for a read of the Cache.
func (o *owned) await(hs handshake) (*tls.Certificate, error) {
	if o == nil || o.isReady() {
		return nil, nil
	}
	ctx, cancel := context.WithDeadline(contextOf(hs.hello), hs.until)
	defer cancel()
	if err := o.waiters.Wait(ctx, o.ready); err != nil {
		return nil, withHost(err, hs.host)
	}
	return o.serve(hs.hello, hs.host, hs.want.can, nil), nil
}

// ownForBadName returns the operator's own certificate for a name that no CA
// certifies, or for none, or nil. It waits for the source's first answer.
func ownForBadName(s *server, hello *tls.ClientHelloInfo) *tls.Certificate {
	if s.own == nil {
		return nil
	}
	hs := s.newHandshake(hello, ownHost(hello.ServerName), keyTypePrefs{can: verifiable(hello)})
	cert, err := s.own.await(hs)
	if cert == nil && err == nil {
		cert = s.own.serve(hello, hs.host, hs.want.can, nil)
	}
	return cert
}

// noteVisit records a visit to a host on the list, for the sake of the cores
// once in a while only.
func (o *owned) noteVisit(x *ownIndex, host string, can keyClasses, now time.Time) {
	if n := x.exact[host]; n != nil {
		seen, t := n.visited.Load(), now.Unix()
		if recently(seen, t) || !n.visited.CompareAndSwap(seen, t) {
			return
		}
	}
	if o.settings.trustOf(host) != listed {
		return
	}
	alg := bundle.ECDSA
	if can&ecdsaKeys == 0 {
		alg = bundle.RSA
	}
	o.visits.noteAsked(host, alg, grant{trust: listed}, now)
}

// awaitOwn waits for the first answer of the source, for those in the
// background and for operators.
func (e *env) awaitOwn(ctx context.Context) {
	if e.own == nil {
		return
	}
	select {
	case <-e.own.ready:
	case <-ctx.Done():
	}
}

// hasOwn reports whether the operator's own certificate is served for host.
func (e *env) hasOwn(host string) bool { return e.own.longest(host, e.now()) != nil }

// mayResume reports whether a full handshake would get one of the operator's own
// certificates for host.
func (o *owned) mayResume(host string) bool {
	if o == nil || host == "" {
		return false
	}
	now := o.now()
	if o.longest(host, now) == nil {
		return false
	}
	o.noteVisit(o.index.Load(), host, allKeys, now)
	return true
}
