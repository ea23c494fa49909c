package certmgr

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/probe"
)

// answerStore is the Cache as the store of answers to challenges.
type answerStore struct{ store *store }

func (s answerStore) Put(ctx context.Context, key string, data []byte) error {
	return s.store.put(ctx, key, data)
}

func (s answerStore) Delete(ctx context.Context, key string) error { return s.store.delete(ctx, key) }

func (s answerStore) DeleteLater(key string, data []byte) {
	s.store.tasks.Go(func(ctx context.Context) {
		flight.Retry(ctx, func(ctx context.Context) (done bool) {
			return s.store.deleteIf(ctx, key, func(now []byte) bool { return bytes.Equal(now, data) }) == nil
		})
	})
}

// challengeTypes returns the challenge types that can be answered.
func (s *settings) challengeTypes() []string {
	if s.http01.Load() {
		return []string{challenge.TLSALPN01, challenge.HTTP01}
	}
	return []string{challenge.TLSALPN01}
}

// isChallenge reports whether a hello is a CA's: tls-alpn-01 offers only its
// own protocol (RFC 8737, section 3). A preflight's second hello is answered in
// the same way.
func isChallenge(hello *tls.ClientHelloInfo) bool {
	protos := hello.SupportedProtos
	return len(protos) == 1 && protos[0] == acme.ALPNProto || probe.IsHello(protos)
}

// challengedHost returns the host that a CA's handshake is about: that of its
// SNI, or the address with such a reverse name (RFC 8738, section 6), which SNI
// cannot carry itself.
func (s *server) challengedHost(sni string) string {
	if addr := hosts.OfReverse(sni); addr != "" && !s.answers.Awaits(sni) {
		return addr
	}
	return sni
}

// challengeCertificate answers a tls-alpn-01 handshake: from memory for a host
// with a pending challenge, and otherwise, for an allowed host, from the Cache,
// where another machine may have put the answer.
func (s *server) challengeCertificate(ctx context.Context, host string, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := s.answers.Certificate(host); cert != nil {
		return cert, nil
	}
	g, err := s.gate.allowed(ctx, host, hello)
	if err != nil {
		return nil, err
	}
	data, err := s.token(ctx, challenge.TLSALPN01Key(host))
	if err == nil {
		err = s.gate.ended(host, g)
	}
	if err != nil {
		return nil, brief(fmt.Errorf("certmgr: %s: no tls-alpn-01 challenge is pending here: %w", shortHost(host), err))
	}
	cert, err := challenge.ParseTLSALPN01(host, data)
	if err != nil {
		return nil, brief(fmt.Errorf("certmgr: %s: tls-alpn-01 answer in the cache: %w", shortHost(host), err))
	}
	return cert, nil
}

// token reads the answer to a challenge from the Cache; CAs ask from several
// places at once, and these requests share one read. A CA may ask only once, so no
// earlier read counts: neither one that has just failed, nor one under way that
// found nothing, since it may have begun before another machine stored the answer.
func (s *server) token(ctx context.Context, key string) ([]byte, error) {
	for again := false; ; again = true {
		call, err := s.store.flight.Start(key, func(ctx context.Context) ([]byte, error) { return s.store.read(ctx, s.store.tokens, key) })
		if err != nil {
			return nil, err
		}
		data, err := call.Wait(ctx)
		if err == nil || call.Began || again || ctx.Err() != nil {
			return data, err
		}
	}
}

// HTTPHandler returns a handler for port 80 that answers http-01 challenges and
// passes all other requests to fallback. The Manager then uses http-01 in
// addition to tls-alpn-01. It tries http-01 first if it is known that no server
// offers "acme-tls/1": by the tls.Config of handshakes that reached
// GetCertificate, or because the CA said so, and http-01 worked.
//
// A nil fallback redirects GET and HEAD requests to https on port 443 with
// status 302. It answers others with 400, and those without a valid Host or
// whose target is not a path. The fallback serves unencrypted
// requests and is not protected by Hosts or HostPolicy.
func (m *Manager) HTTPHandler(fallback http.Handler) http.Handler {
	m.useHTTP01.Store(true)
	if fallback == nil {
		fallback = http.HandlerFunc(redirectToHTTPS)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.URL.Path, challenge.Path)
		if !ok {
			fallback.ServeHTTP(w, r)
			return
		}
		m.init()
		body, status, err := m.engine.server.httpToken(r.Context(), r.Host, token)
		if err != nil {
			text := challenge.RefusalText(status) // err is for the operator only
			if errors.Is(err, ErrNoServerName) {
				text = challenge.TextNoHost
			}
			http.Error(w, text, status)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream") // RFC 8555, 8.3
		w.Write(body)
	})
}

// httpTimeout is the time-out of an http-01 request: those of policy and cache.
const httpTimeout = policyTimeout + cacheTimeout

// httpToken returns the response to an http-01 request, or an error and its
// HTTP status.
func (s *server) httpToken(ctx context.Context, hostport, token string) ([]byte, int, error) {
	ctx, cancel := context.WithTimeout(ctx, httpTimeout)
	defer cancel()
	host, err := normalizeAny(stripPort(hostport), noHostHeader)
	if err != nil {
		return nil, http.StatusForbidden, err
	}
	if !challenge.IsToken(token) {
		return nil, http.StatusNotFound, fmt.Errorf("certmgr: %s: not an http-01 token", host)
	}
	if body := s.answers.KeyAuthorization(host, token); body != nil {
		return body, http.StatusOK, nil
	}
	g, err := s.gate.allowed(ctx, host, nil)
	if err != nil {
		return nil, http.StatusForbidden, err
	}
	if s.answers.IsForeign(host, token) {
		return nil, http.StatusNotFound, fmt.Errorf("certmgr: %s: the http-01 challenge is another host's", host)
	}
	body, err := s.token(ctx, challenge.HTTP01Key(token))
	switch {
	case errors.Is(err, ErrCacheMiss):
		return nil, http.StatusNotFound, fmt.Errorf("certmgr: %s: no such http-01 challenge", host)
	case err != nil:
		return nil, http.StatusServiceUnavailable, err
	case len(body) > challenge.MaxKeyAuthorization:
		return nil, http.StatusNotFound, fmt.Errorf("certmgr: %s: the http-01 answer in the cache has %d bytes: the limit is %d", host, len(body), challenge.MaxKeyAuthorization)
	}
	if err := s.gate.ended(host, g); err != nil {
		return nil, http.StatusForbidden, err
	}
	return body, http.StatusOK, nil
}

func stripPort(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}
