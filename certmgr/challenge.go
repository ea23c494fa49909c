package certmgr

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/text"
)

// Challenge types (RFC 8737, section 3; RFC 8555, section 8.3).
const (
	tlsALPN01 = "tls-alpn-01"
	http01    = "http-01"
)

// solver makes the answer to a challenge available until it is removed here, and
// forgotten by the Cache.
type solver func(ctx context.Context, client *acme.Client, chal *acme.Challenge, host string) (*presented, error)

// presented is an answer that the CA can fetch.
type presented struct {
	host string
	cert *tls.Certificate // tls-alpn-01
	body []byte           // http-01
	seen atomic.Int32     // requests for it, answered here

	unstored bool // the Cache lacks it: no other machine can answer

	remove func()                // from this process
	forget func(context.Context) // from the Cache
}

// challenges holds the live answers of this process; the Cache holds them too,
// for another machine that the CA may reach instead.
type challenges struct {
	store *store

	mu     sync.RWMutex
	certs  map[string]*presented // tls-alpn-01, by host
	tokens map[string]*presented // http-01, by token
}

func newChallenges(s *store) *challenges {
	return &challenges{store: s, certs: make(map[string]*presented), tokens: make(map[string]*presented)}
}

// solver returns the solver for a challenge type, or nil.
func (c *challenges) solver(typ string) solver {
	switch typ {
	case tlsALPN01:
		return c.presentALPN
	case http01:
		return c.presentHTTP
	}
	return nil
}

// isChallenge reports whether a hello is a CA's: tls-alpn-01 asks for its
// protocol alone (RFC 8737, section 3). A preflight's second hello is answered in
// the same way.
func isChallenge(hello *tls.ClientHelloInfo) bool {
	protos := hello.SupportedProtos
	return len(protos) == 1 && protos[0] == acme.ALPNProto || len(protos) == 3 && protos[2] == preflightProto
}

func alpnCacheKey(host string) string  { return host + "+token" }
func httpCacheKey(token string) string { return token + "+http-01" }

func (c *challenges) presentALPN(ctx context.Context, client *acme.Client, chal *acme.Challenge, host string) (*presented, error) {
	cert, err := client.TLSALPN01ChallengeCert(chal.Token, host)
	if err != nil {
		return nil, err
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("challenge key of type %T cannot sign", cert.PrivateKey)
	}
	data, err := bundle.Encode(key, cert.Certificate)
	if err != nil {
		return nil, err
	}
	return c.add(ctx, c.certs, host, alpnCacheKey(host), data, &presented{host: host, cert: &cert}), nil
}

func (c *challenges) presentHTTP(ctx context.Context, client *acme.Client, chal *acme.Challenge, host string) (*presented, error) {
	if !isToken(chal.Token) {
		return nil, fmt.Errorf("the CA's token %q is not base64url", text.OneLine(chal.Token, 64))
	}
	body, err := client.HTTP01ChallengeResponse(chal.Token)
	if err != nil {
		return nil, err
	}
	p := &presented{host: host, body: []byte(body)}
	return c.add(ctx, c.tokens, chal.Token, httpCacheKey(chal.Token), p.body, p), nil
}

// add makes p live here at once and then in the Cache. A Cache that cannot be
// written is reported by store and no reason to fail: the CA may well reach
// this machine.
func (c *challenges) add(ctx context.Context, live map[string]*presented, key, cacheKey string, data []byte, p *presented) *presented {
	c.mu.Lock()
	live[key] = p
	c.mu.Unlock()
	p.unstored = c.store.put(ctx, cacheKey, data) != nil
	p.remove = func() {
		c.mu.Lock()
		if live[key] == p {
			delete(live, key)
		}
		c.mu.Unlock()
	}
	p.forget = func(ctx context.Context) { c.store.delete(ctx, cacheKey) }
	return p
}

func (c *challenges) liveCert(host string) *presented {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.certs[host]
}

func (c *challenges) liveToken(token string) *presented {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.tokens[token]
}

// challengeCertificate answers a tls-alpn-01 handshake: from memory for a host
// with a live challenge, else for an allowed host from the Cache, where another
// machine may have put the answer.
func (s *server) challengeCertificate(ctx context.Context, host string) (*tls.Certificate, error) {
	if p := s.challenges.liveCert(host); p != nil {
		p.seen.Add(1)
		return &tls.Certificate{Certificate: slices.Clip(p.cert.Certificate), PrivateKey: p.cert.PrivateKey}, nil
	}
	if err := s.gate.allowed(ctx, host); err != nil {
		return nil, err
	}
	data, err := s.token(ctx, alpnCacheKey(host))
	if err != nil {
		return nil, fmt.Errorf("certmgr: %s: no tls-alpn-01 challenge is live here: %w", host, err)
	}
	key, chain, err := bundle.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("certmgr: %s: tls-alpn-01 answer in the cache: %w", host, err)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key}, nil
}

// token reads a challenge's answer from the Cache; CAs ask from several places
// at once, which share one read.
func (s *server) token(ctx context.Context, key string) ([]byte, error) {
	call, err := s.store.fetch(s.store.tokens, key)
	if err != nil {
		return nil, err
	}
	return call.Wait(ctx)
}

// acmePath is where http-01 answers are (RFC 8555, section 8.3).
const acmePath = "/.well-known/acme-challenge/"

// HTTPHandler returns a handler for port 80 that answers http-01 challenges and
// passes all other requests to fallback. From then on the Manager uses http-01
// beside tls-alpn-01.
//
// A nil fallback redirects GET and HEAD requests to https on port 443 with
// status 302, and answers others with 400. The fallback serves unencrypted
// requests and is not protected by Hosts or HostPolicy.
func (m *Manager) HTTPHandler(fallback http.Handler) http.Handler {
	m.useHTTP01.Store(true)
	if fallback == nil {
		fallback = http.HandlerFunc(redirectToHTTPS)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.URL.Path, acmePath)
		if !ok {
			fallback.ServeHTTP(w, r)
			return
		}
		m.init()
		body, status, err := m.engine.server.httpToken(r.Context(), r.Host, token)
		if err != nil {
			http.Error(w, toStrangers(status), status) // err is for the operator
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream") // RFC 8555, 8.3
		w.Write(body)
	})
}

// httpTimeout bounds an http-01 request: policy and cache have their own.
const httpTimeout = policyTimeout + cacheTimeout

// httpToken returns the answer to an http-01 request, or an HTTP status.
func (s *server) httpToken(ctx context.Context, hostport, token string) ([]byte, int, error) {
	ctx, cancel := context.WithTimeout(ctx, httpTimeout)
	defer cancel()
	host, err := normalizeHost(stripPort(hostport))
	if err != nil {
		return nil, http.StatusForbidden, err
	}
	if !isToken(token) {
		return nil, http.StatusNotFound, fmt.Errorf("certmgr: %s: not an http-01 token", host)
	}
	if p := s.challenges.liveToken(token); p != nil && p.host == host {
		p.seen.Add(1)
		return p.body, http.StatusOK, nil
	}
	if err := s.gate.allowed(ctx, host); err != nil {
		return nil, http.StatusForbidden, err
	}
	body, err := s.token(ctx, httpCacheKey(token))
	switch {
	case errors.Is(err, ErrCacheMiss):
		return nil, http.StatusNotFound, fmt.Errorf("certmgr: %s: no such http-01 challenge", host)
	case err != nil:
		return nil, http.StatusServiceUnavailable, err
	}
	return body, http.StatusOK, nil
}

// maxToken bounds a token, so that the key of its answer fits into the name of a
// file. CAs use some 43 bytes (128 bits at least, RFC 8555, section 8.3).
const maxToken = 200

// isToken reports whether s is what RFC 8555 allows as a token: base64url. That
// also keeps it from leaving its place in a cache of files.
func isToken(s string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

func stripPort(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

func redirectToHTTPS(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "Use HTTPS", http.StatusBadRequest)
		return
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = net.JoinHostPort(h, "443")
	}
	http.Redirect(w, r, "https://"+host+r.URL.RequestURI(), http.StatusFound)
}

// sighting tells what it means that the CA's request for p was seen or not.
func (p *presented) sighting(typ string) string {
	n := p.seen.Load()
	switch {
	case n > 0:
		return fmt.Sprintf("the CA's request reached this process %d times and was answered", n)
	case typ == tlsALPN01:
		return "no tls-alpn-01 handshake of the CA reached this process: does the name lead to this machine, is port 443 open, " +
			"and does tls.Config.NextProtos hold \"acme-tls/1\" (Manager.TLSConfig sets it)?"
	}
	return "no http-01 request of the CA reached this process: does the name lead to this machine, is port 80 open, and is it served by Manager.HTTPHandler?"
}
