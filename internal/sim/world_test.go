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

// world is one life of a Manager, its CA and its cache.
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

	// Changed by the main goroutine under mu, read by visits.
	mu         sync.Mutex
	m          *certmgr.Manager
	generation int // of the Manager: restarts
	started    time.Time
	skew       time.Duration
	active     map[*incident]bool
	ledger     *ledger   // of this Manager's events
	ariHealthy time.Time // from when on the CA can be asked when to renew
	accounts   int       // that the CA may have
	requests   int       // that were looked at
	violations int
}

// host is a name and what is known about it. world.mu guards it.
type host struct {
	name     string
	allowed  bool
	since    time.Time         // of allowed
	served   *x509.Certificate // what this Manager served last
	trouble  map[*incident]bool
	healthy  time.Time // from when on, once no trouble is left, refusals are violations
	revoked  map[string]time.Time
	absences []span    // from the list
	removals int       // incidents that keep it off the list
	servedAt time.Time // since when served is known
	verified string    // serial number of the last certificate that was verified
}

// span is a time from one moment to another.
type span struct{ from, to time.Time }

// domains so that hosts are spread over several registered domains.
func hostName(i int) string { return fmt.Sprintf("www%d.site%d.example", i, i%max(3, i/10)) }

func newWorld(t *testing.T, seed uint64, hosts int, span time.Duration) *world {
	w := &world{t: t, seed: seed, span: span, begin: time.Now(), rng: rand.New(rand.NewPCG(seed, 0)),
		cache: &unreliable{inner: new(cache.Memory)}, active: make(map[*incident]bool), accounts: 1}
	w.ca = acmetest.NewUnstartedServer()
	w.ca.RateLimits = acmetest.LetsEncryptRateLimits()
	w.ca.RateLimits.Requests = nil // no time passes between requests in a bubble
	w.ca.StartMemory()
	w.ca.RetryAfter(acmetest.RenewalInfo, "43200") // each question costs the simulation time
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

// start makes a Manager with the cache and the hosts of now.
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

// point makes a host's name lead to the Manager, unless it has moved away.
func (w *world) point(h *host) {
	for i := range h.trouble {
		if i.kind == dnsMoved {
			w.ca.Resolve(h.name, acmetest.Target{}) // somebody else's machine
			return
		}
	}
	w.ca.Resolve(h.name, acmetest.Target{TLSConfig: w.m.TLSConfig()})
}

// restart ends the Manager and starts another one.
func (w *world) restart() {
	w.mu.Lock()
	m, ledger := w.m, w.ledger
	w.generation++ // visitors who are inside may get ErrClosed
	w.mu.Unlock()
	if err := m.Close(); err != nil {
		w.violated(nil, "Close: %v", err)
	}
	w.settle(ledger)
	w.start()
}

// settle checks the books of a Manager that has ended.
func (w *world) settle(l *ledger) {
	synctest.Wait()
	for _, v := range l.close() {
		w.violated(nil, "%s", v)
	}
}

// live goes through the whole span, from one moment to the next.
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

// end closes everything; a goroutine that is left makes the bubble fail.
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

// visitAll has every host visited now.
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
