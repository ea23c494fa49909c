package acmetest

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// waitLines is how many requests and failures the error of a failed wait shows.
const waitLines = 5

// WaitUntil returns nil as soon as condition returns true. It calls condition
// at once and then after each event at the CA: a request, a reply, a
// validation, a certificate. So tests need not sleep in a loop:
//
//	err := ca.WaitUntil(ctx, "a failed validation", func() bool {
//		return slices.Contains(ca.Authorizations("www.example.com"), "invalid")
//	})
//
// If the context ends or the server is closed first, the error wraps the
// context's cause or http.ErrServerClosed, and says what it waited for and what
// the CA saw last.
//
// condition runs in the caller's goroutine and may call all methods of the
// server. Changes due to time alone, such as the expiry of an order, are
// noticed only at the next event. All waits work in a testing/synctest bubble.
func (s *Server) WaitUntil(ctx context.Context, what string, condition func() bool) error {
	return s.wait(ctx, "", func() string { return what }, condition)
}

// WaitCount returns nil as soon as n requests that fit m have arrived since the
// start or ForgetRequests, including those that ran into a fault. After and
// Count of m are ignored. Errors are like those of WaitUntil.
func (s *Server) WaitCount(ctx context.Context, m Match, n int) error {
	s.check(&m)
	what := func() string {
		endpoint, about := m.Endpoint, ""
		if endpoint == Any {
			endpoint = "any endpoint"
		}
		if m.Host != "" {
			about = " about " + m.Host
		}
		if m.Account != "" {
			about += " from " + s.path(m.Account)
		}
		return fmt.Sprintf("%d requests to %s%s (%d came in)", n, endpoint, about, s.countMatch(m))
	}
	return s.wait(ctx, m.Host, what, func() bool { return s.countMatch(m) >= n })
}

// WaitIssued returns certificate number n, from 1, of those that IssuedFor
// returns for a name, as soon as it exists. Errors are like those of WaitUntil.
func (s *Server) WaitIssued(ctx context.Context, host string, n int) (*x509.Certificate, error) {
	host, n = mustBeName(host), max(n, 1)
	var certs []*x509.Certificate
	what := func() string { return fmt.Sprintf("certificate %d for %s (%d were issued)", n, host, len(certs)) }
	err := s.wait(ctx, host, what, func() bool {
		certs = s.IssuedFor(host)
		return len(certs) >= n
	})
	if err != nil {
		return nil, err
	}
	return certs[n-1], nil
}

// WaitInFlight returns nil as soon as n or more requests are being handled,
// including stalled ones; with 0, as soon as none is. Errors are like those of
// WaitUntil.
func (s *Server) WaitInFlight(ctx context.Context, n int) error {
	what := func() string { return fmt.Sprintf("%d requests being handled (%d are)", n, s.InFlight()) }
	return s.wait(ctx, "", what, func() bool {
		inFlight := s.InFlight()
		return inFlight == 0 && n == 0 || n > 0 && inFlight >= n
	})
}

// wait is WaitUntil for a name in normal form, which may be empty. what describes the wait,
// for the error.
func (s *Server) wait(ctx context.Context, host string, what func() string, condition func() bool) error {
	s.mustBeUsable()
	s.mustBeInside()
	var cause error
	for {
		changed := s.changes.watch() // before the check, so that no change is missed
		if condition() {
			return nil
		}
		if cause != nil {
			return fmt.Errorf("acmetest: waiting for %s: %w%s", what(), cause, s.recently(host))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			cause = context.Cause(ctx) // after a last check
		case <-s.ctx.Done():
			cause = http.ErrServerClosed
		}
	}
}

// recently describes, in one line, the last failures for a name (or all, if it
// is empty) and the last requests.
func (s *Server) recently(host string) string {
	failures := s.failures(host)
	lines := failures[max(0, len(failures)-waitLines):]
	if requests := s.journal.last(waitLines); len(requests) > 0 {
		for _, r := range requests {
			lines = append(lines, strings.Join(strings.Fields(s.line(r, requests[0].Time)), " "))
		}
	} else {
		lines = append(lines, "no request came in")
	}
	return "; " + strings.Join(lines, "; ")
}

// broadcast notifies waiters of a change. The zero value is ready for use.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{} // nil if there is no watcher
}

// watch returns a channel that the next notify closes. The waiter creates it,
// so it belongs to the waiter's bubble.
func (b *broadcast) watch() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
