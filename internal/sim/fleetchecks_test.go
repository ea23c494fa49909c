package sim

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/internal/pace"
)

// oneADay is how long no other certificate is issued for a host.
const oneADay = day

// visitAll makes a handshake for a host with each machine that is up.
func (f *fleet) visitAll(h *fleetHost) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		if up, struck := n.p.state(); up {
			v := &fleetVisit{f: f, host: h, p: n.p, struck: struck, begin: time.Now()}
			f.background.Go(func() { v.make() })
		}
	}
}

// fleetVisit is one handshake with a machine, and its result.
type fleetVisit struct {
	f      *fleet
	host   *fleetHost
	p      *life
	struck <-chan struct{}
	begin  time.Time
	cert   *tls.Certificate
	err    error
}

// make makes the handshake, and checks it.
func (v *fleetVisit) make() {
	local := v.p.local()
	v.cert, v.err = v.p.m.GetCertificate(&tls.ClientHelloInfo{ServerName: v.host.name})
	took := time.Since(v.begin)
	time.Sleep(time.Nanosecond) // its events are delivered meanwhile
	if v.isOver() {
		return
	}
	if took > longest {
		v.f.violated(v.host.name, "the handshake with %s took %v", v.p.node.name, took)
	}
	v.f.mu.Lock()
	allowed, over := v.host.allowed, !v.host.since.Before(v.begin)
	v.f.mu.Unlock()
	switch {
	case over:
	case !allowed:
		if !errors.Is(v.err, certmgr.ErrHostNotAllowed) {
			v.f.violated(v.host.name, "a visitor of a host off the list got %v", v.err)
		}
	case v.err != nil:
		v.checkRefused(local)
	default:
		v.checkServed(local)
	}
}

// isOver reports whether the machine was restarted, killed or stopped meanwhile.
func (v *fleetVisit) isOver() bool {
	select {
	case <-v.struck:
		return true
	default:
	}
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	return !v.p.isUp()
}

// checkRefused: no handshake is refused while there is a certificate, or could be
// one.
func (v *fleetVisit) checkRefused(local time.Time) {
	f, h := v.f, v.host
	v.p.mu.Lock()
	last := v.p.served[h.name]
	v.p.mu.Unlock()
	switch {
	case last.leaf != nil && last.at.Before(v.begin) && local.Before(last.leaf.NotAfter):
		f.violated(h.name, "%s refused although a certificate valid to %v is in memory: %v", v.p.node.name, last.leaf.NotAfter, v.err)
	case v.storeHas(local):
		v.checkAgain()
	case !f.isCalm(v.begin) || f.isNew(h):
	case errors.Is(v.err, certmgr.ErrInFlight) && f.isIssuing(h), time.Since(v.p.started) < attempt:
	default:
		f.violated(h.name, "%s refused without need: %v", v.p.node.name, v.err)
	}
}

// storeHas reports whether the machine could have found a certificate in the store.
func (v *fleetVisit) storeHas(local time.Time) bool {
	stored := v.f.store.stored(v.host.name)
	return stored.leaf != nil && stored.at.Before(v.begin.Add(-time.Second)) && local.Before(stored.leaf.NotAfter) &&
		v.f.store.worksSince(v.p.node, v.begin.Add(-fleetLease))
}

// checkAgain visits the host twice more. What failed lately is looked for in the store
// every 10 s.
func (v *fleetVisit) checkAgain() {
	v.f.mu.Lock()
	busy := v.host.checking[v.p.node]
	v.host.checking[v.p.node] = true
	v.f.mu.Unlock()
	if busy {
		return
	}
	defer func() {
		v.f.mu.Lock()
		defer v.f.mu.Unlock()
		delete(v.host.checking, v.p.node)
	}()
	var err error
	for range 2 {
		time.Sleep(11 * time.Second)
		if v.isOver() {
			return
		}
		if _, err = v.p.m.GetCertificate(&tls.ClientHelloInfo{ServerName: v.host.name}); err == nil {
			return
		}
	}
	v.f.mu.Lock()
	over := v.host.since.After(v.begin)
	v.f.mu.Unlock()
	if !v.isOver() && !over && v.storeHas(v.p.local()) {
		v.f.violated(v.host.name, "%s refuses although a certificate is in the store: %v", v.p.node.name, err)
	}
}

// checkServed: the served certificate is correct.
func (v *fleetVisit) checkServed(local time.Time) {
	f, h, leaf := v.f, v.host, v.cert.Leaf
	if f.isUnverified(leaf.SerialNumber.String()) {
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: h.name, Roots: f.ca.Roots(), Intermediates: pool(v.cert.Certificate[1:]),
			CurrentTime: leaf.NotBefore.Add(time.Minute)})
		if err != nil {
			f.violated(h.name, "%s served a wrong certificate: %v", v.p.node.name, err)
		}
	}
	if local.After(leaf.NotAfter) {
		f.violated(h.name, "%s served a certificate that ended at %v by its clock", v.p.node.name, leaf.NotAfter)
	}
	stored := f.store.stored(h.name)
	lifetime := leaf.NotAfter.Sub(leaf.NotBefore)
	if stored.leaf != nil && stored.leaf.NotBefore.After(leaf.NotBefore) && f.isCalm(v.begin) &&
		v.begin.After(stored.at.Add(time.Hour)) && v.begin.After(leaf.NotBefore.Add(lifetime*4/5)) {
		f.violated(h.name, "%s still serves the certificate to %v, and that to %v was stored at %v", v.p.node.name, leaf.NotAfter, stored.leaf.NotAfter, stored.at)
	}
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	if had := v.p.served[h.name]; v.p.served != nil && (had.leaf == nil || !had.leaf.Equal(leaf)) {
		v.p.served[h.name] = servedLeaf{leaf, time.Now()}
	}
}

// isUnverified reports that once for each certificate: to verify is expensive.
func (f *fleet) isUnverified(serial string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.wrong[serial]
	f.wrong[serial] = true
	return !known
}

// isCalm reports whether nothing has been wrong for so long that no host is waiting for
// its next attempt.
func (f *fleet) isCalm(at time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calm(at)
}

// calm is isCalm. f.mu is held.
func (f *fleet) calm(at time.Time) bool {
	for _, n := range f.active {
		if n > 0 {
			return false
		}
	}
	return at.After(f.healthy)
}

// isNew reports whether a host is one of awaitNew, which checks more.
func (f *fleet) isNew(h *fleetHost) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return h.isNew
}

// isIssuing reports whether a machine issues for a host, or did a moment ago.
func (f *fleet) isIssuing(h *fleetHost) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		if n.p.ledger.issuing(h.name) {
			return true
		}
	}
	return false
}

// checkRequests checks the CA's log since the last time.
func (f *fleet) checkRequests() {
	for _, r := range f.ca.ForgetRequests() {
		f.requests++
		if r.Fault == "" && r.Status == http.StatusTooManyRequests {
			f.violated("", "a limit of the CA was exceeded at %v: %s %s: %s", r.Time.Sub(f.begin), r.Endpoint, r.Host, r.Detail)
		}
	}
	if n := len(f.ca.Accounts()); n > 1 {
		f.violated("", "%d accounts were registered", n)
	}
}

// checkIssued checks that each host had one certificate at a time.
func (f *fleet) checkIssued() {
	last := make(map[string]issuedCertificate)
	f.mu.Lock()
	for _, c := range f.recent {
		last[c.host] = c
	}
	excused := make(map[string]time.Time)
	for _, h := range f.hosts {
		excused[h.name] = pace.Later(h.since, h.renewed)
	}
	f.mu.Unlock()
	for _, c := range f.issued.take() {
		if had, ok := last[c.host]; ok && c.at.Sub(had.at) < oneADay && !excused[c.host].After(had.at.Add(-attempt)) {
			f.violated(c.host, "a certificate was issued at %v, and another one %v later", had.at, c.at.Sub(had.at))
		}
		last[c.host] = c
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recent = f.recent[:0]
	for _, c := range last {
		if time.Since(c.at) < oneADay {
			f.recent = append(f.recent, c)
		}
	}
}
