package certmgr

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/cases"
	"github.com/nostall/nostall/internal/flight"
)

// entryFor returns a cache entry with a certificate for sub that is valid for
// left from now.
func entryFor(sub subject, left time.Duration) []byte {
	key := testKeys()[sub.keyType]
	return mustEncode(key, selfSigned(sub.host(), key, left))
}

var errDisk = errors.New("disk on fire")

// slow returns a callback that takes d, or until its context ends if it heeds it.
func slow(d time.Duration, heeds bool) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		if !heeds {
			ctx = context.WithoutCancel(ctx)
		}
		return 1, flight.Sleep(ctx, d)
	}
}

// testKeys are made once: RSA takes its time.
var testKeys = sync.OnceValue(func() (keys [bundle.KeyTypes]crypto.Signer) {
	for kt := range keys {
		key, err := bundle.GenerateKey(bundle.KeyType(kt))
		if err != nil {
			panic(err)
		}
		keys[kt] = key
	}
	return keys
})

// undue is how long certificates are valid whose renewal is not due yet.
const undue = 60 * 24 * time.Hour

// selfSigned returns a certificate for host that is valid for left from now.
func selfSigned(host string, key crypto.Signer, left time.Duration) []byte {
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(7), DNSNames: []string{host},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(left).Truncate(time.Second),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return der
}

func mustEncode(key crypto.Signer, chain ...[]byte) []byte {
	data, err := bundle.Encode(key, chain)
	if err != nil {
		panic(err)
	}
	return data
}

// keep puts an entry into the cache.
func (w *world) keep(key string, data []byte) {
	w.t.Helper()
	if err := w.cache.Cache.Put(w.t.Context(), key, data); err != nil {
		w.t.Fatal(err)
	}
}

// newHosts returns so many names below a registered domain.
func newHosts(domain string, n int) (hosts []string) {
	for i := range n {
		hosts = append(hosts, fmt.Sprintf("h%03d.%s", i, domain))
	}
	return hosts
}

func (w *world) mustRevoke(host string, reason acme.CRLReasonCode) {
	w.t.Helper()
	if err := w.m.Revoke(w.t.Context(), host, reason); err != nil {
		w.t.Fatalf("Revoke(%q): %v", host, err)
	}
}

// wantRevoked checks that the CA revoked these certificates and no other, and that
// there is one event for each.
func (w *world) wantRevoked(certs ...*tls.Certificate) {
	w.t.Helper()
	synctest.Wait()
	revoked := w.ca.Revoked()
	if len(revoked) != len(certs) {
		w.t.Fatalf("the CA revoked %d certificates, want %d", len(revoked), len(certs))
	}
	events := w.events.of(audit.CertificateRevoked)
	if len(events) != len(certs) {
		w.t.Fatalf("%d events of %d revocations: %v", len(events), len(certs), events)
	}
	for i, cert := range certs {
		if !revoked[i].Equal(cert.Leaf) {
			w.t.Errorf("another certificate was revoked")
		}
		if e := events[i]; e.Host != "a.example.com" || e.Serial != serialOf(cert.Leaf) {
			w.t.Errorf("the event does not say what was revoked: %v", e)
		}
	}
}

// wantNoTrouble checks that nothing is held back by what was canceled.
func (w *world) wantNoTrouble() {
	w.t.Helper()
	snap := w.m.Snapshot()
	failed := slices.ContainsFunc(snap.Hosts, func(h HostStatus) bool { return h.Failure != nil })
	if snap.CAFailure != nil || len(snap.RecentFailures) != 0 || failed {
		w.t.Errorf("a canceled issuance counts as a failure: %v, %v", snap.CAFailure, snap.RecentFailures)
	}
	for key, n := range w.m.Metrics().Failed {
		if n != 0 {
			w.t.Errorf("%d failures at %s", n, key)
		}
	}
}

// table knows the cases that are known to fail.
var table = cases.For("certmgr")

// CaseTable is the same one, for the tests from outside.
var CaseTable = table
