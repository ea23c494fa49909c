package sim

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"sync"
	"time"
)

// issuedCertificate is a certificate that the CA has issued and the cache may
// not have been given yet.
type issuedCertificate struct {
	host     string
	serial   string
	at       time.Time
	lifetime time.Duration
	names    int
}

// issuedCertificates are those not yet known to be stored.
type issuedCertificates struct {
	mu      sync.Mutex
	pending []issuedCertificate
	all     []issuedCertificate
}

// add notes a certificate that the CA issues.
func (c *issuedCertificates) add(leaf *x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := issuedCertificate{
		host:     nameOf(leaf),
		serial:   leaf.SerialNumber.String(),
		at:       time.Now(),
		lifetime: leaf.NotAfter.Sub(leaf.NotBefore).Round(time.Minute),
		names:    len(leaf.DNSNames),
	}
	c.pending = append(c.pending, one)
	c.all = append(c.all, one)
}

// covers reports whether a host got a certificate before t that ends after t.
func (c *issuedCertificates) covers(host string, t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.all, func(one issuedCertificate) bool {
		return one.host == host && one.at.Before(t) && one.at.Add(one.lifetime).After(t)
	})
}

// take empties the list.
func (c *issuedCertificates) take() []issuedCertificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.pending
	c.pending = nil
	return list
}

// putBack adds what is still to be judged.
func (c *issuedCertificates) putBack(list []issuedCertificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(list, c.pending...)
}

// leafIn returns the first certificate in a cache entry, or nil.
func leafIn(entry []byte) *x509.Certificate {
	for {
		block, rest := pem.Decode(entry)
		if block == nil {
			return nil
		}
		if block.Type == "CERTIFICATE" {
			leaf, _ := x509.ParseCertificate(block.Bytes)
			return leaf
		}
		entry = rest
	}
}

// serialIn returns the serial number of that, or "".
func serialIn(entry []byte) string {
	leaf := leafIn(entry)
	if leaf == nil {
		return ""
	}
	return leaf.SerialNumber.String()
}

const (
	// orderLifetime is how long the fake CA keeps an order.
	orderLifetime = 7 * day

	// storedWithin is how soon a certificate is stored if nothing is wrong. A
	// restart may put off the renewal, and with it the order that is resumed, to
	// another moment within the CA's renewal window.
	storedWithin = 3 * day
)

// checkStored checks that the cache was given each certificate that the CA has
// issued, once nothing has been wrong for a while.
func (w *world) checkStored() {
	byName := make(map[string]*host)
	for _, h := range w.hosts {
		byName[h.name] = h
	}
	var later []issuedCertificate
	for _, c := range w.issued.take() {
		w.checkProfile(c)
		if !w.judgeStored(c, byName[c.host]) {
			later = append(later, c)
		}
	}
	w.issued.putBack(later)
}

// checkProfile checks that a certificate has the profile of the settings, once no
// order from before they were changed can be resumed.
func (w *world) checkProfile(c issuedCertificate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	profile := w.profileOf(c.host)
	want := w.ca.Profiles[profile].Lifetime
	if c.at.After(w.chosen.Add(orderLifetime)) && c.lifetime != want {
		w.violatedLocked(nil, "the certificate %s of %s lives for %s, and not for the %s of the profile %s", c.serial, c.host, c.lifetime, want, profile)
	}
}

// judgeStored reports whether nothing more need be found out about c.
func (w *world) judgeStored(c issuedCertificate, h *host) bool {
	if h == nil || w.cache.wasStored(c.serial) {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch begun := c.at.Add(-attempt); {
	case !w.forgetful.Before(begun), !h.allowed, h.since.After(begun):
		return true // cache or host were away: that can lose it
	case h.own.changed.Add(ownEvery).After(begun):
		return true // its order is resumed no more, if the host has an own certificate
	case w.group && (c.names == 1 || w.regrouped.After(begun)):
		return true // its order is not resumed if the host has got a certificate of its group meanwhile
	case w.isActive(cacheReads), w.isActive(cacheWrites):
		return true
	case len(h.trouble) > 0, time.Since(c.at) < storedWithin, time.Since(h.healthy) < storedWithin:
		return time.Since(c.at) > orderLifetime // then nobody can fetch it
	}
	w.violatedLocked(h, "the certificate %s, issued on day %.4f, was never stored", c.serial, c.at.Sub(w.begin).Hours()/24)
	return true
}

// checkNewHost checks what is left of a host's first issuance: one certificate,
// stored, and no order to be resumed. killed says that a process had no time to
// tidy up.
func (w *world) checkNewHost(h *host, killed bool) {
	certificates := 0
	for _, c := range w.issued.take() {
		if c.host != h.name {
			continue
		}
		certificates++
		if !w.cache.wasStored(c.serial) {
			w.violated(h, "the certificate %s was never stored", c.serial)
		}
	}
	if certificates > 1 {
		w.violated(h, "%d certificates were issued, want 1", certificates)
	}
	for _, key := range w.cache.keys() {
		if !killed && strings.HasPrefix(key, h.name) && strings.HasSuffix(key, "+order") {
			w.violated(h, "the cache still has %s", key)
		}
	}
}
