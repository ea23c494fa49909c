package certmgr

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// owned knows the certificates of the operator's own (Manager.Certificates). A
// nil *owned, without a source, has none.
type owned struct {
	index atomic.Pointer[ownIndex] // nil until the source has answered
	ready chan struct{}            // closed once it has, or has failed

	// Set by newEngine.
	waiters    *flight.Waiters // for handshakes until then
	handshakes *handshakes
	visits     *visits

	settings *settings
	clock
	failed atomic.Pointer[string] // why the source's last answer was an error, or nil
}

func newOwned(set *settings, c clock) *owned {
	if set.certificates == nil {
		return nil
	}
	return &owned{ready: make(chan struct{}), settings: set, clock: c}
}

// ownIndex is all of a source's answer. It is replaced, not modified, except for
// atomic fields.
type ownIndex struct {
	exact map[string]*ownedName // by host, or address
	wild  map[string]*ownedName // by what follows "*."

	byName   map[string]*ownCert // in service, by OwnCertificate.Name
	rejected []ownRejection
}

// ownRejection is a certificate of a source that cannot be used.
type ownRejection struct {
	name    string
	err     error
	expired *ownCert // the certificate, if it has expired and nothing else is wrong
}

// ownedName is a name in the operator's certificates.
type ownedName struct {
	certs   []*ownCert   // the one that lasts longest first
	visited atomic.Int64 // when visits were last told of it, in Unix seconds
}

// ownCert is a certificate of the operator's own; immutable.
type ownCert struct {
	cert    *tls.Certificate // with its Leaf; its chain is capped
	source  string
	keyType string     // "ECDSA", "RSA" or "Ed25519"
	class   keyClasses // none for Ed25519
	names   []string   // in normal form, wildcards as written

	notBefore, notAfter time.Time
	since               time.Time // when it was first seen

	// handover is when issuance begins to prepare for the expiry, and late is
	// when somebody should know that nothing replaces it.
	handover, late time.Time
}

// isValid reports whether the certificate may be served now. Unlike one that a
// CA has just issued, one that is not valid yet is not: it may have been put
// there for later.
func (c *ownCert) isValid(now time.Time) bool {
	return !now.Before(c.notBefore) && !now.After(c.notAfter)
}

// fits reports whether a client can verify the certificate's signatures.
func (c *ownCert) fits(hello *tls.ClientHelloInfo, can keyClasses) bool {
	if c.class != 0 {
		return c.class&can != 0
	}
	return slices.Contains(hello.SignatureSchemes, tls.Ed25519)
}

// find returns the certificate for a client that asks for host, or nil. One for
// the exact name goes first, then one whose key is not RSA, which costs more,
// then the one that lasts longest. fits is false if the client can use none of
// them.
func (x *ownIndex) find(host string, hello *tls.ClientHelloInfo, can keyClasses, now time.Time) (best *ownCert, fits bool) {
	for _, n := range x.of(host) {
		if n == nil {
			continue
		}
		for _, c := range n.certs {
			switch {
			case !c.isValid(now):
			case !c.fits(hello, can):
				if best == nil {
					best = c
				}
			case c.class&rsaKeys == 0:
				return c, true
			case !fits:
				best, fits = c, true
			}
		}
		if fits {
			break
		}
	}
	return best, fits
}

// of returns what there is for a host: by its exact name, and by a wildcard.
func (x *ownIndex) of(host string) [2]*ownedName {
	_, parent, _ := strings.Cut(host, ".")
	return [2]*ownedName{x.exact[host], x.wild[parent]}
}

// longest returns the certificate for host that is valid now and lasts longest,
// or nil.
func (x *ownIndex) longest(host string, now time.Time) (longest *ownCert) {
	for _, n := range x.of(host) {
		if n == nil {
			continue
		}
		for _, c := range n.certs {
			if c.isValid(now) && (longest == nil || c.notAfter.After(longest.notAfter)) {
				longest = c
			}
		}
	}
	return longest
}

// longest is ownIndex.longest. It does not block.
func (o *owned) longest(host string, now time.Time) *ownCert {
	if o == nil {
		return nil
	}
	x := o.index.Load()
	if x == nil {
		return nil
	}
	return x.longest(host, now)
}

// until returns until when nothing is issued for host, because it has a
// certificate of the operator's own. It is not after now if something may be.
func (o *owned) until(host string, now time.Time) time.Time {
	c := o.longest(host, now)
	if c == nil {
		return time.Time{}
	}
	return c.handover
}

// forbids returns why nothing is issued for a subject now, or nil. It does not
// block.
func (o *owned) forbids(sub subject, now time.Time) error {
	if o == nil || sub.group { // members that have one are apart, and not in the order
		return nil
	}
	for _, host := range sub.names() {
		if !o.until(host, now).After(now) {
			return nil // at least this one needs it
		}
	}
	c := o.longest(sub.host(), now)
	if c == nil {
		return nil
	}
	return &refusal{kind: ErrOwnCertificate, host: sub.host(), text: fmt.Sprintf("from %s, valid until %s; nothing is issued for it before %s, unless it leaves Manager.Certificates",
		text.OneLine(c.source, maxOwnSource), text.Stamp(c.notAfter), text.Stamp(c.handover))}
}

// maxOwnSource is how much of a certificate's source is in a text, in bytes.
const maxOwnSource = 512

// isReady reports whether the source has answered for the first time, or has
// failed.
func (o *owned) isReady() bool {
	select {
	case <-o.ready:
		return true
	default:
		return false
	}
}

// copy returns the copy for a caller of GetCertificate.
func (c *ownCert) copy() *tls.Certificate {
	cert := *c.cert
	return &cert
}

// ownHost returns the name under which an index has a name that is not a host
// name which a public CA could certify: a single label, or an address.
func ownHost(name string) string {
	name = strings.TrimSuffix(name, ".")
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Unmap().WithZone("").String()
	}
	return strings.ToLower(name)
}
