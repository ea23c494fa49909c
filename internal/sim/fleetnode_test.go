package sim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/pace"
)

// node is a machine of a fleet.
type node struct {
	name string
	f    *fleet
	p    *life // f.mu guards it
}

// life is a Manager on a machine, from its start to a restart or a kill. It stands
// between the Manager and everything else: the store, the CA, visitors.
type life struct {
	node    *node
	m       *certmgr.Manager
	ledger  *ledger
	started time.Time
	skew    time.Duration // of the machine's wall clock, ahead of the store's

	mu     sync.Mutex
	blow   *blow         // what is to happen to it, or nil
	struck chan struct{} // closed when it is
	thawed chan struct{} // closed when it goes on; nil while it runs
	slept  time.Duration // by how much its monotonic clock is behind
	dead   bool
	served map[string]servedLeaf // by host
}

// servedLeaf is what a Manager last served.
type servedLeaf struct {
	leaf *x509.Certificate
	at   time.Time
}

var (
	_ cache.Cache       = (*life)(nil)
	_ cache.Locker      = (*life)(nil)
	_ http.RoundTripper = (*life)(nil)
)

// start starts a Manager on the machine. f.mu is held.
func (n *node) start() {
	f := n.f
	list := certmgr.MustAllowlist()
	for _, h := range f.hosts {
		if h.allowed {
			must(list.Add(h.name))
		}
	}
	p := &life{node: n, ledger: newLedger(), started: time.Now(), struck: make(chan struct{}), served: make(map[string]servedLeaf)}
	p.skew = time.Duration(f.chance.Int64N(int64(10*time.Minute))) - 5*time.Minute
	p.m = &certmgr.Manager{
		Prompt:      certmgr.AcceptTOS,
		Cache:       p,
		Hosts:       list,
		OrderBudget: pace.AccountOrders,
		Profile:     f.profile,
		Machine:     n.name,
		Lease:       fleetLease,

		Client: &acme.Client{DirectoryURL: f.ca.URL, HTTPClient: &http.Client{Transport: p}},
		Audit:  p.ledger.hook,

		HandshakeWait: 10 * time.Second,
	}
	setClock(p.m, p.now)
	n.p = p
	f.starts++
	must(p.m.Start(context.Background()))
}

// now is what time.Now returns on the machine.
func (p *life) now() time.Time {
	p.mu.Lock()
	slept := p.slept
	p.mu.Unlock()
	instant := time.Now()
	return withReadings(instant.Add(p.skew), instant.Add(-slept).Sub(time.Unix(0, 0)))
}

// local returns the time by its wall clock.
func (p *life) local() time.Time { return time.Now().Add(p.skew) }

// blow is what happens to a Manager after some steps: it is killed, or stopped for a
// while, or its machine is cut off from the store. A step is a moment before or after
// a call of the store or a request to the CA.
type blow struct {
	steps  int           // that pass before
	lasts  time.Duration // 0 means that it is killed
	atPut  bool          // the steps count from when it stores the certificate of a new host
	asleep bool          // while it is stopped its monotonic clock stands still
	cut    storeFault    // what happens to its calls while it is cut off, or 0
}

// arm sets what happens to the Manager, or takes that back.
func (p *life) arm(b *blow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blow = b
}

// disarm takes b back.
func (p *life) disarm(b *blow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blow == b {
		p.blow = nil
	}
}

// reachPut notes that it stores the certificate of a new host.
func (p *life) reachPut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blow != nil {
		p.blow.atPut = false
	}
}

// isUp reports whether it is neither dead nor stopped nor closed. p.mu is held.
func (p *life) isUp() bool { return !p.dead && p.thawed == nil && p.served != nil }

// state returns whether it is up, and a channel that is closed when that ends.
func (p *life) state() (up bool, struck <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.isUp(), p.struck
}

// step is one of those moments. A Manager that is stopped waits in it.
func (p *life) step() error {
	p.mu.Lock()
	if b := p.blow; b != nil && !b.atPut && p.isUp() {
		if b.steps--; b.steps < 0 {
			p.blow = nil
			p.strike(b)
		}
	}
	thawed := p.thawed
	p.mu.Unlock()
	if thawed != nil {
		<-thawed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return errKilled
	}
	return nil
}

// strike has it happen. p.mu is held.
func (p *life) strike(b *blow) {
	n := p.node
	switch {
	case b.lasts == 0:
		close(p.struck)
		p.dead = true
		p.ledger.mute()
		n.f.background.Go(func() { n.revive(p) })
	case b.cut != storeWorks:
		n.f.store.set(n, [storeCalls]storeFault{b.cut, b.cut, b.cut})
		n.f.background.Go(func() {
			time.Sleep(b.lasts)
			n.f.store.clear(n)
		})
	default:
		close(p.struck)
		p.thawed = make(chan struct{})
		n.f.background.Go(func() {
			time.Sleep(b.lasts)
			p.goOn(b)
			n.f.mu.Lock()
			defer n.f.mu.Unlock()
			n.f.stops++
		})
	}
}

// goOn ends a stop.
func (p *life) goOn(b *blow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.asleep {
		p.slept += b.lasts
	}
	close(p.thawed)
	p.thawed, p.struck = nil, make(chan struct{})
}

// revive starts another Manager for one that was killed.
func (n *node) revive(p *life) {
	time.Sleep(n.f.downtime())
	_ = p.m.Close() // it cannot write any more
	n.f.settle(p.ledger)
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	n.f.kills++
	n.start()
}

// restart closes the Manager and starts another one. It does nothing with one that is
// stopped or dead.
func (n *node) restart() {
	p := n.life()
	if up, _ := p.state(); !up {
		return
	}
	p.close()
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	n.start()
}

// close closes the Manager, and checks its events.
func (p *life) close() {
	p.mu.Lock()
	p.served, p.blow = nil, nil // its visitors may get ErrClosed
	close(p.struck)
	p.mu.Unlock()
	if err := p.m.Close(); err != nil {
		p.node.f.violated("", "%s: Close: %v", p.node.name, err)
	}
	p.node.f.settle(p.ledger)
}

func (n *node) life() *life {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	return n.p
}

// call makes a call of the store. One that was on its way when the Manager was stopped
// takes place later.
func (p *life) call(ctx context.Context, kind storeCall, f func(context.Context) error) error {
	began := time.Now()
	if err := p.step(); err != nil {
		return err
	}
	if time.Since(began) > 0 {
		ctx = context.WithoutCancel(ctx)
	}
	err := p.node.f.store.pass(ctx, p.node, kind, f)
	if dead := p.step(); dead != nil {
		return dead
	}
	return err
}

// RoundTrip implements http.RoundTripper.
func (p *life) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := p.step(); err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	resp, err := p.node.f.ca.Client().Transport.RoundTrip(r)
	if dead := p.step(); dead != nil {
		if err == nil {
			_ = resp.Body.Close()
		}
		return nil, dead
	}
	return resp, err
}

// getCertificate is the load balancer's: the CA reaches any machine that is up, one
// after the other.
func (f *fleet) getCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	type result struct {
		cert *tls.Certificate
		err  error
	}
	for range 2 * len(f.nodes) {
		p := f.next().life()
		up, struck := p.state()
		if !up {
			continue
		}
		done := make(chan result, 1)
		go func() {
			cert, err := p.m.GetCertificate(hello)
			done <- result{cert, err}
		}()
		select {
		case r := <-done:
			return r.cert, r.err
		case <-struck:
		}
	}
	return nil, errKilled
}
