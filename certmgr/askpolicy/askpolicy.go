package askpolicy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/flight"
)

// Options are the settings of a Policy. Zero means the default, negative means
// off.
type Options struct {
	// Client makes the requests. Its redirects are not followed, whatever its
	// CheckRedirect says, and it is not changed. Nil means a client of the
	// Policy's own, without a proxy and cookies, with up to 64 connections of
	// which 8 stay open for 30 seconds. Set it for a client certificate, a CA of
	// your own, or a Unix socket.
	Client *http.Client
	// Timeout is how long one question may take. Default 4 seconds: a Manager
	// gives a policy 5, and so learns what did not answer. It cannot be off.
	Timeout time.Duration
	// Remember is how long a yes holds without another question. Default 1
	// minute. A Manager remembers too, for hosts whose certificate is in memory
	// (PolicyTTL).
	Remember time.Duration
	// MaxRemembered is how many names with a yes are remembered. Default 10,000.
	// If there are more, the oldest of a few are forgotten.
	MaxRemembered int
	// PlainHTTP allows an http URL that does not lead to this machine. Whoever
	// is on the way can then read which hosts are asked about, and answer.
	PlainHTTP bool
}

const (
	defaultTimeout       = 4 * time.Second
	defaultRemember      = time.Minute
	defaultMaxRemembered = 10_000

	// maxJoined is how many callers may wait for questions that others asked,
	// and half of them for one name.
	maxJoined = 1000

	// maxAsked is how many questions are asked at the same time.
	maxAsked = 1000

	// closeGrace is how long Close waits for a client that ignores its context.
	closeGrace = 5 * time.Second

	// maxName is the length of the longest host name. Longer ones are refused.
	maxName = 253
)

// Policy asks an endpoint. Its method Allow is a certmgr.HostPolicy. It is safe
// for concurrent use, also by several Managers.
type Policy struct {
	endpoint url.URL
	shown    string // the endpoint without secrets, for errors
	client   *http.Client
	own      *http.Transport // of client, if that is the Policy's own
	timeout  time.Duration
	remember time.Duration
	tasks    *flight.Tasks
	asking   *flight.Flight[string, struct{}]
	calls    *flight.Callouts // the client may be the user's code

	mu      sync.Mutex
	allowed capped.Map[string, time.Time] // when the endpoint said yes
}

// New returns a Policy that asks endpoint, an absolute URL with https, or with
// http to a loopback address or localhost; Options.PlainHTTP allows http to
// others. Its query and user information are kept; the parameter "domain" is
// set for each question. o may be nil.
func New(endpoint string, o *Options) (*Policy, error) {
	if o == nil {
		o = new(Options)
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		if e, ok := err.(*url.Error); ok {
			err = e.Err // the URL may have a password
		}
		return nil, fmt.Errorf("askpolicy: the endpoint is not a URL: %w", err)
	}
	u.Fragment, u.RawFragment = "", ""
	p := &Policy{
		endpoint: *u,
		shown:    (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String(),
		timeout:  o.Timeout,
		remember: o.Remember,
		tasks:    flight.NewTasks(),
		allowed:  capped.Map[string, time.Time]{Max: o.MaxRemembered},
	}
	switch {
	case u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("askpolicy: the endpoint %s is not an absolute https URL, such as https://app.example.internal/ask", p.shown)
	case u.Scheme == "http" && !o.PlainHTTP && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("askpolicy: the endpoint %s is not on this machine, so anyone on the way could answer: "+
			"use https, or set Options.PlainHTTP if the network is your own", p.shown)
	}
	if p.timeout <= 0 {
		p.timeout = defaultTimeout
	}
	if p.remember == 0 {
		p.remember = defaultRemember
	}
	if p.allowed.Max == 0 {
		p.allowed.Max = defaultMaxRemembered
	}
	if p.allowed.Max < 0 {
		p.remember = -1
	}
	p.asking = flight.Named[struct{}](p.tasks, flight.NewWaiters(maxJoined, "askpolicy"))
	p.calls = flight.NewCallouts("askpolicy", maxAsked).FailFast(p.timeout)
	p.setClient(o.Client)
	return p, nil
}

// isLoopback reports whether a host of a URL is this machine.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// Allow is a certmgr.HostPolicy. Questions about one host at the same time are
// one request, which goes on if a caller's context ends. The error is nil if the
// endpoint allows the host, wraps certmgr.ErrHostNotAllowed if it does not, and
// certmgr.ErrPolicy if there is no answer.
func (p *Policy) Allow(ctx context.Context, host string) error {
	if len(host) == 0 || len(host) > maxName {
		return fmt.Errorf("%w: a name of %d bytes", certmgr.ErrHostNotAllowed, len(host))
	}
	if p.remembers(host) {
		return nil
	}
	call, err := p.asking.Start(host, func(ctx context.Context) (struct{}, error) {
		ctx, cancel := flight.Within(ctx, p.timeout, "no answer")
		defer cancel()
		return flight.CallOut(ctx, p.calls, host, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, p.ask(ctx, host)
		})
	})
	if err != nil {
		return p.undecided(host, err)
	}
	_, err = call.Wait(ctx)
	switch e := err.(type) {
	case nil, *answer:
		return err
	case *flight.Left:
		err = e.Cause
	}
	return p.undecided(host, err)
}

// remembers reports whether the endpoint allowed a host lately.
func (p *Policy) remembers(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.allowed.Get(host)
	return ok && time.Since(at) < p.remember
}

// noteYes remembers that the endpoint allowed a host.
func (p *Policy) noteYes(host string) {
	if p.remember <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed.Put(host, time.Now(), time.Time.Before)
}

// forget forgets an old yes of a host that the endpoint refused.
func (p *Policy) forget(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed.Delete(host)
}

// Close ends requests that are under way and closes idle connections of the
// Policy's own client. Afterwards Allow knows no answers but remembered ones. If
// a client of the caller's ignores its context, the error says so after 5
// seconds. Close the Manager first.
func (p *Policy) Close() error {
	p.tasks.Close()
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	err := errors.Join(p.tasks.Wait(ctx), p.calls.Wait(ctx))
	if p.own != nil {
		p.own.CloseIdleConnections()
	}
	return err
}
