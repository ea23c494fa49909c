package certmgr

import (
	"fmt"

	"github.com/nostall/nostall/internal/bundle"
)

// KeyType is the type of a certificate's private key. The zero value is the
// default of the setting that it is for.
type KeyType uint8

// The types of keys. P256 is the fastest for servers, which sign once in each full
// handshake: in Go, an RSA signature costs some 30 times as much with 2048 bits,
// and some 200 times with 4096.
const (
	P256    KeyType = iota + 1 // ECDSA on NIST P-256
	P384                       // ECDSA on NIST P-384; not every client can verify it
	RSA2048                    // RSA with 2048 bits
	RSA3072                    // RSA with 3072 bits
	RSA4096                    // RSA with 4096 bits; generating a key takes seconds
)

// String returns the name of the type, such as "P-256" or "RSA 2048", and
// "default" for the zero value.
func (kt KeyType) String() string {
	switch {
	case kt == 0:
		return "default"
	case !kt.isValid():
		return fmt.Sprintf("KeyType(%d)", uint8(kt))
	}
	return kt.or(bundle.P256).String()
}

func (kt KeyType) isValid() bool { return kt <= bundle.KeyTypes }

// or returns the type, or def for the zero value and those that do not exist.
func (kt KeyType) or(def bundle.KeyType) bundle.KeyType {
	if kt == 0 || !kt.isValid() {
		return def
	}
	return bundle.KeyType(kt - 1)
}

// keyTypeOf returns the type of key that is preferred for a host. It does not
// allocate.
func (set *settings) keyTypeOf(host string) bundle.KeyType {
	own, _ := set.settingsOf(host)
	return own.KeyType.or(set.keyType)
}

// keyType returns the type of key to generate for a subject: the preferred one if
// it is of the subject's algorithm, or else the default of that.
func (e *env) keyType(sub subject) bundle.KeyType {
	if kt := e.settings.keyTypeOf(sub.host()); kt.Algorithm() == sub.alg {
		return kt
	}
	return bundle.DefaultKeyType(sub.alg)
}

// keyTypePrefs is what a client is served. It is comparable.
type keyTypePrefs struct {
	first bundle.Algorithm // of the certificate to issue
	can   keyClasses       // keys that the client can verify, and one of first
}

// wantOf returns what a client of host is to be served that can verify keys of
// can, given the certificates in memory, of which e may be nil. That is the type
// that is preferred for the host or, if the client cannot verify it, the
// default of the other algorithm. A certificate with a key of another type than
// the preferred one, which is valid, is not replaced because of that.
func (e *env) wantOf(host string, can keyClasses, entry *hostEntry) keyTypePrefs {
	kt := e.settings.keyTypeOf(host)
	class, first := classOfType(kt), kt.Algorithm()
	if entry != nil {
		if c := entry.certs[first]; c != nil && c.usable(e.now()) {
			class = c.class
		}
	}
	if can&class != 0 {
		return keyTypePrefs{first: first, can: can}
	}
	if e.settings.keySource != nil {
		return keyTypePrefs{first: first, can: can | classesOf(first)} // it has no others
	}
	other := bundle.DefaultKeyType(1 - first)
	if can&classOfType(other) == 0 {
		other = bundle.RSA2048 // as autocert does: the client may know more than it says
	}
	return keyTypePrefs{first: other.Algorithm(), can: can | classOfType(other)}
}

// anyWant is wantOf without a client, whose certificates are for all.
func (e *env) anyWant(host string) keyTypePrefs {
	return keyTypePrefs{first: e.settings.keyTypeOf(host).Algorithm(), can: allKeys}
}

// preferred returns the subject of a host that is issued without a client.
func (e *env) preferred(host string) subject {
	return e.subject(host, e.settings.keyTypeOf(host).Algorithm())
}

// types returns the algorithms of certificates that may do, the preferred one
// first.
func (p keyTypePrefs) types() []bundle.Algorithm {
	if p.can&classesOf(1-p.first) == 0 {
		return []bundle.Algorithm{p.first}
	}
	return []bundle.Algorithm{p.first, 1 - p.first}
}
