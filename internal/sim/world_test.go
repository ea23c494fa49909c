package sim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// world is a simulation of a Manager, its CA and its cache.
type world struct {
	t     *testing.T
	seed  uint64
	span  time.Duration
	begin time.Time
	rng   *rand.Rand // of the main goroutine

	ca       *acmetest.Server
	cache    *unreliable
	hosts    []*host
	lifetime atomic.Int64 // of new certificates
	visits   sync.WaitGroup

	// Written by the main goroutine under mu, read by visits.
	mu         sync.Mutex
	m          *certmgr.Manager
	generation int // number of restarts of the Manager
	started    time.Time
	skew       time.Duration
	active     map[*incident]bool
	ledger     *ledger   // of this Manager's events
	ariHealthy time.Time // since when renewal information works
	accounts   int       // number of accounts that the CA may have
	requests   int       // number of requests checked
	violations int
}

// host is a name and its known state. world.mu guards it.
type host struct {
	name     string
	allowed  bool
	since    time.Time         // of allowed
	served   *x509.Certificate // last served by this Manager
	trouble  map[*incident]bool
	healthy  time.Time // since when, without incidents, refusals are violations
	revoked  map[string]time.Time
	absences []span    // times off the list
	removals int       // number of incidents that keep it off the list
	servedAt time.Time // time of served
	verified string    // serial number of the last verified certificate
}

// span is a time interval.
type span struct{ from, to time.Time }

// domains spreads hosts over several registered domains.
func hostName(i int) string { return fmt.Sprintf("www%d.site%d.example", i, i%max(3, i/10)) }

func newWorld(t *testing.T, seed uint64, hosts int, span time.Duration) *world {
	w := &world{t: t, seed: seed, span: span, begin: time.Now(), rng: rand.New(rand.NewPCG(seed, 0)),
		cache: &unreliable{inner: new(cache.Memory)}, active: make(map[*incident]bool), accounts: 1}
	w.ca = acmetest.NewUnstartedServer()
	w.ca.RateLimits = acmetest.LetsEncryptRateLimits()
	w.ca.RateLimits.Requests = nil // requests take no time in a bubble
	w.ca.StartMemory()
	w.ca.RetryAfter(acmetest.RenewalInfo, "43200") // each request slows the simulation down
	w.lifetime.Store(int64(90 * day))
	w.ca.EditCertificate("*", func(leaf *x509.Certificate) {
		leaf.NotAfter = leaf.NotBefore.Add(time.Duration(w.lifetime.Load()) - time.Second)
	})
	for i := range hosts {
		w.hosts = append(w.hosts, &host{name: hostName(i), allowed: true, since: w.begin,
			trouble: make(map[*incident]bool), revoked: make(map[string]time.Time)})
	}
	w.start()
	return w
}

// start creates a Manager with the cache and the current hosts.
func (w *world) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := certmgr.MustAllowlist()
	for _, h := range w.hosts {
		h.served = nil
		if h.allowed {
			must(list.Add(h.name))
		}
	}
	w.generation++
	w.started = time.Now()
	w.ledger = newLedger()
	w.m = &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  w.cache,
		Hosts:  list,
		Client: &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: w.ca.Client()},
		Audit:  w.ledger.hook,
	}
	for _, h := range w.hosts {
		w.point(h)
	}
	must(w.m.Start(context.Background()))
}

// point resolves a host's name to the Manager, unless it has moved away.
func (w *world) point(h *host) {
	for i := range h.trouble {
		if i.kind == dnsMoved {
			w.ca.Resolve(h.name, acmetest.Target{}) // another machine
			return
		}
	}
	w.ca.Resolve(h.name, acmetest.Target{TLSConfig: w.m.TLSConfig()})
}

// restart closes the Manager and starts a new one.
func (w *world) restart() {
	w.mu.Lock()
	m, ledger := w.m, w.ledger
	w.generation++ // handshakes in progress may get ErrClosed
	w.mu.Unlock()
	if err := m.Close(); err != nil {
		w.violated(nil, "Close: %v", err)
	}
	w.settle(ledger)
	w.start()
}

// settle checks the ledger of a closed Manager.
func (w *world) settle(l *ledger) {
	synctest.Wait()
	for _, v := range l.close() {
		w.violated(nil, "%s", v)
	}
}

// live runs the simulation, action by action.
func (w *world) live() {
	moments := timeline(w.rng, len(w.hosts), w.span)
	slices.SortStableFunc(moments, func(a, b moment) int { return int(a.at - b.at) })
	for _, m := range moments {
		if w.failed() {
			return
		}
		time.Sleep(time.Until(w.begin.Add(m.at)))
		m.do(w)
	}
	time.Sleep(time.Until(w.begin.Add(w.span)))
}

// end closes everything; a leaked goroutine makes the bubble fail.
func (w *world) end() {
	w.visits.Wait()
	w.checkRequests()
	if err := w.m.Close(); err != nil {
		w.violated(nil, "Close: %v", err)
	}
	w.settle(w.ledger)
	w.ca.Close()
	w.t.Logf("seed %d: %d certificates, %d requests, %d restarts", w.seed, len(w.ca.Issued()), w.requests, w.generation/2)
}

// visit is one handshake.
func (w *world) visit(h *host) {
	w.visits.Go(func() {
		w.mu.Lock()
		v := visit{host: h, generation: w.generation, begin: time.Now()}
		m := w.m
		w.mu.Unlock()
		v.cert, v.err = m.GetCertificate(&tls.ClientHelloInfo{ServerName: h.name})
		v.took = time.Since(v.begin)
		w.check(v)
	})
}

// visitAll makes one handshake for every host now.
func (w *world) visitAll() {
	for _, h := range w.hosts {
		w.visit(h)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
