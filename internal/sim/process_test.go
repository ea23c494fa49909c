package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/pace"
)

// process is a Manager from its start to a restart or a kill. It stands between
// the Manager and everything that outlives it: the cache, the CA, clients. A
// kill cuts the Manager off from all of them at once, wherever it is.
type process struct {
	m      *certmgr.Manager
	ledger *ledger // of its events
	cache  cache.Cache
	net    http.RoundTripper
	killed chan<- struct{} // capacity 1

	mu    sync.Mutex
	armed bool
	steps int // that pass before the kill
	dead  bool
}

var errKilled = errors.New("sim: the process was killed")

var (
	_ cache.Cache       = (*process)(nil)
	_ http.RoundTripper = (*process)(nil)
)

// newProcess returns a process that is yet to be started.
func (w *world) newProcess(list *certmgr.Allowlist) *process {
	p := &process{ledger: newLedger(), cache: w.cache, net: w.ca.Client().Transport, killed: w.killed}
	p.m = &certmgr.Manager{
		Prompt:      certmgr.AcceptTOS,
		Cache:       p,
		Hosts:       list,
		OrderBudget: pace.AccountOrders,
		Profile:     w.profile,

		HostSettings: addressSettings(w.hosts),

		Client: &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: &http.Client{Transport: p}},
		Audit:  p.ledger.hook,

		Certificates:      w.operator.certificates,
		CertificatesEvery: ownEvery,

		HandshakeWait: 10 * time.Second, // the default of TLS stacks, also for hellos made by hand
	}
	setClock(p.m, w.clock.now)
	return p
}

// arm has the process killed after this many steps. A step is a moment before
// or after a write to the cache or a signed request to the CA.
func (p *process) arm(steps int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed, p.steps = true, steps
}

// disarm takes arm back.
func (p *process) disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = false
}

// step is one of those moments. It returns an error if the process is dead.
func (p *process) step() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.armed:
	case p.steps > 0:
		p.steps--
	default:
		p.armed, p.dead = false, true
		p.ledger.mute()
		select {
		case p.killed <- struct{}{}:
		default:
		}
	}
	return p.alive()
}

// alive returns an error if the process is dead. p.mu is held.
func (p *process) alive() error {
	if p.dead {
		return errKilled
	}
	return nil
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// Get implements cache.Cache.
func (p *process) Get(ctx context.Context, key string) ([]byte, error) {
	if p.isDead() {
		return nil, errKilled
	}
	return p.cache.Get(ctx, key)
}

// Put implements cache.Cache.
func (p *process) Put(ctx context.Context, key string, data []byte) error {
	return p.write(func() error { return p.cache.Put(ctx, key, data) })
}

// Delete implements cache.Cache.
func (p *process) Delete(ctx context.Context, key string) error {
	return p.write(func() error { return p.cache.Delete(ctx, key) })
}

func (p *process) write(write func() error) error {
	if err := p.step(); err != nil {
		return err
	}
	err := write()
	return errors.Join(p.step(), err)
}

// RoundTrip implements http.RoundTripper.
func (p *process) RoundTrip(r *http.Request) (*http.Response, error) {
	step := p.step
	if r.Method != http.MethodPost { // nothing depends on the others
		step = func() error {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.alive()
		}
	}
	if err := step(); err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	resp, err := p.net.RoundTrip(r)
	if err != nil {
		return nil, errors.Join(step(), err)
	}
	if err := step(); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// tlsConfig returns what clients connect to.
func (p *process) tlsConfig() *tls.Config {
	config := p.m.TLSConfig()
	get := config.GetCertificate
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if p.isDead() {
			return nil, errKilled
		}
		return get(hello)
	}
	return config
}
