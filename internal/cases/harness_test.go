package cases

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

var table = For("cases")

func TestMain(m *testing.M) { os.Exit(table.Main(m)) }

// host is the host on a world's allowlist.
const host = "www.example.com"

// A world is a CA, a cache, and a Manager that uses both.
type world struct {
	ca     *acmetest.Server
	cache  certmgr.Cache
	events *recorder
	m      *certmgr.Manager
}

// bubble runs f in a bubble of virtual time, with a new world that ends with
// it.
func bubble(t *T, f func(t *T, w *world)) {
	t.Helper()
	bubbleCA(t, func(*acmetest.Server) {}, f)
}

// bubbleCA is bubble with a CA that set configures before it starts.
func bubbleCA(t *T, set func(*acmetest.Server), f func(t *T, w *world)) {
	t.Helper()
	t.Bubble(func(t *T) {
		ca := acmetest.NewUnstartedServer()
		ca.ValidateInReply = acmetest.Never // so that authorizations are polled
		set(ca)
		ca.StartMemory()
		w := newWorld(ca)
		defer w.close()
		f(t, w)
	})
}

func newWorld(ca *acmetest.Server) *world {
	w := &world{ca: ca, cache: new(cache.Memory), events: new(recorder)}
	w.m = w.manager(host)
	return w
}

func (w *world) close() {
	w.m.Close()
	w.ca.Close()
}

// manager returns a new Manager, to which all names lead. Fields may be set
// before its first use.
func (w *world) manager(hosts ...string) *certmgr.Manager {
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  w.cache,
		Hosts:  certmgr.MustAllowlist(hosts...),
		Client: &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: w.ca.Client()},
		Audit:  w.events.hook,

		HandshakeWait: 10 * time.Second, // the default of TLS stacks, also for hellos made by hand
	}
	w.ca.Resolve("*", acmetest.Target{TLSConfig: m.TLSConfig()})
	return m
}

// restart replaces the Manager like a new process: only the cache stays.
func (w *world) restart(hosts ...string) {
	w.m.Close()
	if len(hosts) == 0 {
		hosts = []string{host}
	}
	w.m = w.manager(hosts...)
}

// edit changes each reply of an endpoint, after the CA has processed the
// request.
func (w *world) edit(e acmetest.Endpoint, f func(r *acmetest.Reply)) (lift func()) {
	return w.ca.Edit(acmetest.Match{Endpoint: e}, f).Lift
}

// get makes a client's handshake. The error is the one that the short error of
// the handshake wraps: what an operator is told.
func (w *world) get(name string) (*tls.Certificate, error) {
	cert, err := w.m.GetCertificate(hello(name))
	if fmt.Sprintf("%T", err) == "*certmgr.handshakeError" { // not an error of HostPolicy
		err = errors.Unwrap(err)
	}
	return cert, err
}

// until repeats get until it succeeds, or for limit. It returns how long that
// took, and the last error.
func (w *world) until(name string, every, limit time.Duration) (time.Duration, error) {
	begin := time.Now()
	for {
		_, err := w.get(name)
		if took := time.Since(begin); err == nil || took >= limit {
			return took, err
		}
		time.Sleep(every)
	}
}

func hello(name string) *tls.ClientHelloInfo { return &tls.ClientHelloInfo{ServerName: name} }

// issued returns the number of certificates that the CA issued.
func (w *world) issued() int { return len(w.ca.Issued()) }

// newOrders returns the number of orders that the CA made.
func (w *world) newOrders() int { return len(w.ca.Orders()) }

func mustObtain(t *T, w *world, name string) {
	t.Helper()
	if err := w.m.Obtain(t.Context(), name); err != nil {
		t.Fatalf("Obtain: [%s] %v\n%v", sentinels(err), err, w.ca)
	}
}

// A recorder keeps audit events. It is safe for concurrent use.
type recorder struct {
	mu     sync.Mutex
	events []audit.Event
}

func (r *recorder) hook(_ context.Context, e audit.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// all returns the events so far. A goroutine of the Manager delivers them: call
// synctest.Wait or Close first to have all.
func (r *recorder) all() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *recorder) of(kind audit.Kind) []audit.Event {
	return slices.DeleteFunc(r.all(), func(e audit.Event) bool { return e.Kind != kind })
}

// sentinels returns the names of the sentinels that err wraps, with spaces
// between them.
func sentinels(err error) string {
	var names []string
	for _, s := range []struct {
		name string
		err  error
	}{
		{"ErrNoServerName", certmgr.ErrNoServerName},
		{"ErrBadServerName", certmgr.ErrBadServerName},
		{"ErrHostNotAllowed", certmgr.ErrHostNotAllowed},
		{"ErrInFlight", certmgr.ErrInFlight},
		{"ErrBackoff", certmgr.ErrBackoff},
		{"ErrCAUnavailable", certmgr.ErrCAUnavailable},
		{"ErrNoAccount", certmgr.ErrNoAccount},
		{"ErrBusy", certmgr.ErrBusy},
		{"ErrCache", certmgr.ErrCache},
		{"ErrPolicy", certmgr.ErrPolicy},
		{"ErrUnreachable", certmgr.ErrUnreachable},
		{"ErrClock", certmgr.ErrClock},
		{"ErrClosed", certmgr.ErrClosed},
		{"ErrCacheMiss", certmgr.ErrCacheMiss},
	} {
		if errors.Is(err, s.err) {
			names = append(names, s.name)
		}
	}
	return strings.Join(names, " ")
}
