package sim

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	random "math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr"
)

// ownEvery is Manager.CertificatesEvery. Each look slows the simulation down.
const ownEvery = 12 * time.Hour

// operator has certificates of its own for some hosts (Manager.Certificates).
type operator struct {
	key  *ecdsa.PrivateKey // of its CA
	root *x509.Certificate

	moments []moment // what it does later

	mu   sync.Mutex
	list map[string]certmgr.OwnCertificate // by host
}

// own is what is known of the operator's own certificate of a host. world.mu
// guards it.
type own struct {
	good    *x509.Certificate // the last good one, unless it was taken away
	before  *x509.Certificate // the one before, which may be served until the next look
	changed time.Time
	damaged bool // good is in the memory of the Manager only
	quiet   []span
	end     time.Time // of good
	ended   bool      // the takeover was checked
}

// hasOwn reports whether a host has an own certificate at times.
func hasOwn(i int) bool { return i%3 == 1 }

func newOperator() *operator {
	o := &operator{list: make(map[string]certmgr.OwnCertificate)}
	o.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Office CA"},
		NotBefore: time.Now().Add(-day), NotAfter: time.Now().Add(20 * year), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, o.key.Public(), o.key)
	must(err)
	o.root, err = x509.ParseCertificate(der)
	must(err)
	return o
}

// certificates is Manager.Certificates.
func (o *operator) certificates(context.Context) (list []certmgr.OwnCertificate, _ error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.list {
		list = append(list, c)
	}
	return list, nil
}

func (o *operator) set(host string, c certmgr.OwnCertificate) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.Name = host + ".crt"
	o.list[host] = c
}

func (o *operator) remove(host string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.list, host)
}

// sign returns a certificate.
func (o *operator) sign(name string, from, to time.Time) *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(from.UnixNano()), DNSNames: []string{name}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, o.root, key.Public(), o.key)
	must(err)
	leaf, err := x509.ParseCertificate(der)
	must(err)
	return &tls.Certificate{Certificate: [][]byte{der, o.root.Raw}, PrivateKey: key, Leaf: leaf}
}

// ownMoments returns what the operator does with the certificate of a host: it
// has one from the start, which ends and is replaced by another, by nothing, by
// a damaged one, or is taken away.
func ownMoments(rng *random.Rand, host int, total time.Duration) (all []moment) {
	days := func(least, most int) time.Duration { return time.Duration(least+rng.IntN(most-least)) * day }
	turn := rng.IntN(4)
	for at := time.Duration(0); at < total; turn++ {
		life, wild := days(60, 200), rng.IntN(2) == 0
		all = append(all, moment{at, func(w *world) { w.putOwn(w.hosts[host], life, wild) }})
		end := at + life
		switch turn % 4 {
		case 0: // another
			at = end - days(1, 20)
		case 1: // nothing
			at = end + days(10, 150)
		case 2: // a damaged one
			at = end - days(3, 25)
			how := rng.IntN(3)
			all = append(all, moment{at, func(w *world) { w.damageOwn(w.hosts[host], how) }})
			at = end + days(10, 100)
		case 3:
			at += life / 2
			all = append(all, moment{at, func(w *world) { w.removeOwn(w.hosts[host]) }})
			at += days(10, 100)
		}
	}
	for i, m := range all {
		if m.at >= total {
			return all[:i]
		}
	}
	return all
}

// beginOwn has hosts start with a certificate of the operator's.
func (w *world) beginOwn() {
	for i := range w.hosts {
		if hasOwn(i) {
			moments := ownMoments(random.New(random.NewPCG(w.seed, uint64(i))), i, w.span)
			moments[0].do(w)
			w.operator.moments = append(w.operator.moments, moments[1:]...)
		}
	}
}

// putOwn gives a host a certificate of the operator's.
func (w *world) putOwn(h *host, life time.Duration, wild bool) {
	name := h.name
	if wild {
		_, parent, _ := strings.Cut(name, ".")
		name = "*." + parent
	}
	now := w.clock.wall()
	c := w.operator.sign(name, now.Add(-time.Hour), now.Add(life))
	w.mu.Lock()
	defer w.mu.Unlock()
	h.own.change(c.Leaf)
	h.own.end = time.Now().Add(life)
	// Nothing is ordered until half of what is left when a certificate of the CA
	// would be renewed: a third, at most 30 days, and up to a tenth of that more.
	left := min(life/3, 30*day) * 11 / 10
	h.own.quiet = append(h.own.quiet, span{time.Now().Add(ownEvery + attempt), h.own.end.Add(-left/2 - day)})
	w.operator.set(h.name, certmgr.OwnCertificate{Certificate: c})
}

// damageOwn replaces the certificate of a host by one that cannot be used.
func (w *world) damageOwn(h *host, how int) {
	now := w.clock.wall()
	c := w.operator.sign(h.name, now.Add(-2*day), now.Add(year))
	broken := certmgr.OwnCertificate{Certificate: c}
	switch how {
	case 0:
		broken = certmgr.OwnCertificate{Err: errors.New("the file was cut short")}
	case 1:
		c.PrivateKey = w.operator.key
	case 2:
		broken.Certificate = w.operator.sign(h.name, now.Add(-2*day), now.Add(-day))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	h.own.damaged = true
	w.operator.set(h.name, broken)
}

// removeOwn takes the certificate of a host away.
func (w *world) removeOwn(h *host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h.own.change(nil)
	h.served = nil
	w.operator.remove(h.name)
}

// change notes that leaf, or nothing, takes the place of the certificate.
func (o *own) change(leaf *x509.Certificate) {
	o.before, o.good, o.changed, o.damaged, o.ended = o.good, leaf, time.Now(), false, false
	if n := len(o.quiet); n > 0 && o.quiet[n-1].to.After(o.changed) {
		o.quiet[n-1].to = o.changed
	}
}

// restarted notes that the memory of the Manager was lost.
func (o *own) restarted() {
	if o.damaged {
		o.change(nil)
		o.before = nil
	}
}

// suspended notes that d passed at once on the machine.
func (o *own) suspended(d time.Duration) {
	o.end = o.end.Add(-d)
	if n := len(o.quiet); n > 0 {
		o.quiet[n-1].to = o.quiet[n-1].to.Add(-d)
	}
}

// isOwn reports whether a certificate is the operator's.
func (o *own) isOwn(leaf *x509.Certificate) bool {
	return o.good != nil && o.good.Equal(leaf) || o.before != nil && o.before.Equal(leaf)
}

// checkOwn checks a visit of a host by what the operator provides, and reports
// whether nothing else is to be checked. w.mu is held.
func (w *world) checkOwn(v visit) bool {
	h, o := v.host, &v.host.own
	noticed := v.begin.After(o.changed.Add(ownEvery + time.Minute))
	switch {
	case o.changed.After(v.begin):
		return true
	case v.err == nil && o.isOwn(v.cert.Leaf):
		if noticed && (o.good == nil || !o.good.Equal(v.cert.Leaf)) {
			w.violatedLocked(h, "served an own certificate that was replaced at %v", o.changed)
		}
		w.checkOwnServed(v)
		return true
	case o.good == nil:
		return false
	case noticed && !v.local.After(o.good.NotAfter):
		w.violatedLocked(h, "got %v and not the own certificate valid to %v", v.err, o.good.NotAfter)
		return true
	case v.local.After(o.good.NotAfter) && !o.ended:
		o.ended = true
		w.checkTakeover(v)
	}
	return false
}

// checkOwnServed: an own certificate that is served is correct. w.mu is held.
func (w *world) checkOwnServed(v visit) {
	h, leaf := v.host, v.cert.Leaf
	if v.local.After(leaf.NotAfter) {
		w.violatedLocked(h, "served an own certificate that ended at %v", leaf.NotAfter)
	}
	roots := x509.NewCertPool()
	roots.AddCert(w.operator.root)
	if serial := leaf.SerialNumber.String(); h.verified != serial {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: h.name, Roots: roots, CurrentTime: leaf.NotBefore}); err != nil {
			w.violatedLocked(h, "served a wrong own certificate: %v", err)
		}
		h.verified = serial
	}
	if !w.p.ledger.has(leaf.DNSNames[0], leaf.NotAfter) {
		w.violatedLocked(h, "no event tells of the own certificate to %v", leaf.NotAfter)
	}
	if h.own.good != nil && h.own.good.Equal(leaf) { // else it is served until the next look
		h.served, h.servedAt = leaf, time.Now()
	}
}

// checkTakeover: when an own certificate has ended, there is one of the CA
// already, unless something was wrong. w.mu is held.
func (w *world) checkTakeover(v visit) {
	h, o := v.host, &v.host.own
	latest := o.end.Add(-2 * day)
	if len(h.trouble) > 0 || h.healthy.After(latest) || !h.allowed || h.since.After(latest) {
		return
	}
	w.takeovers++
	if !w.issued.covers(h.name, o.end) {
		w.violatedLocked(h, "nothing was issued before the own certificate ended at %v", o.good.NotAfter)
	}
}

// checkQuiet: nothing is ordered for a host at this time if it has a good
// certificate of the operator's.
func (w *world) checkQuiet(h *host, at time.Time) {
	for _, quiet := range h.own.quiet {
		if at.After(quiet.from) && at.Before(quiet.to) {
			w.violated(h, "ordered at %v although the own certificate was good", at.Sub(w.begin))
		}
	}
}
