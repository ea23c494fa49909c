package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// world is a site and its CA in a bubble of virtual time: a test sleeps for
// days, and none of it takes long.
type world struct {
	t      *testing.T
	ca     *acmetest.Server
	cache  *cache.Memory // outlives the site, as a disk does
	events *recorder

	// Of the site that runs.
	site   *site
	client *http.Client // reaches it under every name
	stop   func()
}

// inBubble runs a test in a bubble.
func inBubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ca := acmetest.NewMemoryServer()
		defer ca.Close()
		w := &world{t: t, ca: ca, cache: new(cache.Memory), events: new(recorder), stop: func() {}}
		defer func() {
			w.stop()
			if t.Failed() {
				t.Log(ca) // prints what it was asked
			}
		}()
		test(t, w)
	})
}

// start runs the site until stop. Its names lead to it, for the CA and for the
// client.
func (w *world) start(hosts ...string) {
	w.t.Helper()
	w.site = newTestSite(w.t, w.ca, w.cache, w.events, hosts...)
	w.ca.Resolve("*", acmetest.Target{TLSConfig: w.site.certs.TLSConfig()})
	listener := newPipes()
	w.client = newClient(w.ca, listener.dial)
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.site.serve(ctx, listener) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the end of the server: %v", err)
		}
	})
	time.Sleep(time.Second) // of virtual time: by now it has the certificates that can be had
}

// refusal visits a host without a certificate and returns the reason, which
// only the server knows.
func (w *world) refusal(host string) error {
	w.t.Helper()
	if res, err := w.client.Get("https://" + host + "/"); err == nil {
		res.Body.Close()
		w.t.Fatalf("%s was served", host)
	}
	_, reason := w.site.certs.GetCertificate(&tls.ClientHelloInfo{ServerName: host})
	return reason
}

// pipes is a listener without sockets, whose clients wait for real time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// recorder is a hook for audit events that remembers them.
type recorder struct {
	mu     sync.Mutex
	events []audit.Event
}

func (r *recorder) hook(_ context.Context, e audit.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// of returns the events of a kind that were delivered, oldest first.
func (r *recorder) of(kind audit.Kind) []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := slices.Clone(r.events)
	return slices.DeleteFunc(events, func(e audit.Event) bool { return e.Kind != kind })
}
