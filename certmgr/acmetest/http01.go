package acmetest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxRedirects = 10
	// maxAnswer is the largest body accepted; a key authorization has 87 bytes.
	maxAnswer = 128
	// maxReply is the largest reply including its headers.
	maxReply = 1 << 20
)

// validateHTTP01 fetches the key authorization from the host (RFC 8555, section
// 8.3).
func (s *Server) validateHTTP01(ctx context.Context, host, token, keyAuthorization string) *Problem {
	url := "http://" + urlHost(host) + "/.well-known/acme-challenge/" + token
	what := "http-01 for " + host + " at " + url
	client := &http.Client{Transport: &targetTransport{s}, CheckRedirect: checkRedirect}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return problemf("malformed", "%s: %v", what, err)
	}
	req.Header.Set("User-Agent", "acmetest (validation)")
	req.Header.Set("Accept", "*/*")
	resp, err := client.Do(req)
	if err != nil {
		var problem *Problem
		if errors.As(err, &problem) {
			problem.Detail = what + ": " + problem.Detail
			return problem
		}
		return connectionProblem(err, what)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if resp.StatusCode != http.StatusOK {
		return problemf("unauthorized", "%s: the answer has status %d", what, resp.StatusCode)
	}
	if err != nil {
		return connectionProblem(err, what)
	}
	if len(body) > maxAnswer {
		return problemf("unauthorized", "%s: the answer is longer than %d bytes, it begins with %q", what, maxAnswer, body[:64])
	}
	if got := strings.TrimRight(string(body), " \t\r\n"); got != keyAuthorization {
		return problemf("unauthorized", "%s: the answer is %q instead of %q", what, got, keyAuthorization)
	}
	return nil
}

// urlHost returns a name in the form of URLs: an IPv6 address in brackets.
func urlHost(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// checkRedirect allows what Let's Encrypt allows: http and https on their
// default ports, to names.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return problemf("connection", "more than %d redirects", maxRedirects)
	}
	port := req.URL.Port()
	switch {
	case req.URL.Scheme == "http" && (port == "" || port == "80"):
	case req.URL.Scheme == "https" && (port == "" || port == "443"):
	default:
		return problemf("connection", "redirect to %q: only http on port 80 and https on port 443 are followed", req.URL)
	}
	if net.ParseIP(req.URL.Hostname()) != nil {
		return problemf("connection", "redirect to %q: an IP address is not followed", req.URL)
	}
	return nil
}

// targetTransport sends requests to the Target of their host.
type targetTransport struct{ s *Server }

var _ http.RoundTripper = (*targetTransport)(nil)

// RoundTrip calls the target's handler, or connects to its address.
func (t *targetTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	target, problem := t.s.names.lookup(req.URL.Hostname())
	if problem != nil {
		return nil, problem
	}
	handler := target.HTTPHandler
	if req.URL.Scheme == "https" && target.HTTPSHandler != nil {
		handler = target.HTTPSHandler
	}
	if handler != nil {
		memory := &memoryTransport{tasks: &t.s.tasks, ctx: t.s.ctx, handler: handler}
		return memory.RoundTrip(req)
	}
	return t.s.overNetwork(req, target)
}

// overNetwork sends a request to the address of a target. Unlike net/http's
// transport it leaves no goroutine behind: all have ended when the body is
// closed or an error returned.
func (s *Server) overNetwork(req *http.Request, target Target) (*http.Response, error) {
	ctx := req.Context()
	raw, conn, err := s.dialHTTP(ctx, req, target)
	if err != nil {
		return nil, err
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = raw.SetDeadline(time.Unix(1, 0)) // ends reads and writes
	})
	end := sync.OnceValue(func() error {
		if !stop() {
			<-interrupted
		}
		return raw.Close() // closing the TLS connection would block until its alert is read
	})
	resp, err := exchangeHTTP(conn, req)
	if err != nil {
		_ = end()
		return nil, err
	}
	resp.Body = &networkBody{resp.Body, end}
	return resp, nil
}

// exchangeHTTP sends a request and reads the header of the reply.
func exchangeHTTP(conn net.Conn, req *http.Request) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.Close = true
	if err := out.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(io.LimitReader(conn, maxReply))
	for {
		resp, err := http.ReadResponse(reader, req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
}

// networkBody is a body whose Close closes the connection.
type networkBody struct {
	io.Reader
	end func() error
}

// Close implements io.Closer.
func (b *networkBody) Close() error { return b.end() }

// dialHTTP connects for http-01. HTTP is spoken on conn, over TLS for a
// redirect to https; raw is the underlying connection.
func (s *Server) dialHTTP(ctx context.Context, req *http.Request, target Target) (raw, conn net.Conn, err error) {
	if req.URL.Scheme == "http" {
		raw, err = dialTarget(ctx, target.HTTPAddr)
		return raw, raw, err
	}
	if raw, err = s.dialHTTPS(ctx, target); err != nil {
		return nil, nil, err
	}
	// Any certificate is accepted: the host may have none yet.
	client := tls.Client(raw, &tls.Config{ServerName: req.URL.Hostname(), InsecureSkipVerify: true})
	if err := client.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, nil, handshakeProblem(err, "redirect to https")
	}
	return raw, client, nil
}

// dialHTTPS connects for a redirect to https. A TLSConfig has no HTTP server
// behind it.
func (s *Server) dialHTTPS(ctx context.Context, target Target) (net.Conn, error) {
	if target.TLSConfig != nil {
		return nil, fmt.Errorf("a Target with TLSConfig answers redirects to https by its HTTPHandler, and it has none")
	}
	return dialTarget(ctx, target.TLSAddr)
}
