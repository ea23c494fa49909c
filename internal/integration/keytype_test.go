package integration

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/cache"
)

// keyOf names the type of a certificate's key as certmgr.KeyType does.
func keyOf(leaf *x509.Certificate) string {
	switch key := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return key.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	}
	return "unknown"
}

// The CA certifies each type of key, which is set by host.
func TestKeyTypes(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l)})
	types := map[string]certmgr.KeyType{
		"p256.example.org":    certmgr.P256,
		"p384.example.org":    certmgr.P384,
		"rsa3072.example.org": certmgr.RSA3072,
		"rsa4096.example.org": certmgr.RSA4096,
	}
	m := newManager(t, p, new(cache.Memory), "p256.example.org", "p384.example.org", "rsa3072.example.org", "rsa4096.example.org")
	m.KeyType = certmgr.P384
	m.HostSettings = make(map[string]certmgr.HostSettings)
	for host, kt := range types {
		m.HostSettings[host] = certmgr.HostSettings{KeyType: kt}
	}
	addr := serveTLS(t, l, m.TLSConfig())
	for host, kt := range types {
		if err := m.Obtain(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		if got := keyOf(mustVisit(t, addr, host, p.roots, nil)); got != kt.String() {
			t.Errorf("%s has %s, want %v", host, got, kt)
		}
	}
	m.close(t)
	if n := m.traffic.sent(newOrder); n != len(types) {
		t.Errorf("%d orders, want %d", n, len(types))
	}
}

// moduleKey is a private key that only signs.
type moduleKey struct{ crypto.Signer }

// The keys of a hardware module, before and after a restart.
func TestKeySource(t *testing.T) {
	const host = "www.example.org"
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l)})
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	source := func(context.Context, string) (crypto.Signer, error) { return moduleKey{key}, nil }
	store := new(cache.Memory)
	m := newManager(t, p, store, host)
	m.KeySource = source
	addr := serveTLS(t, l, m.TLSConfig())
	first := mustVisit(t, addr, host, p.roots, nil)
	if !key.PublicKey.Equal(first.PublicKey) {
		t.Error("the certificate is not for the module's key")
	}
	m.close(t)
	entry, err := store.Get(t.Context(), host)
	if err != nil || !strings.HasPrefix(string(entry), "-----BEGIN PUBLIC KEY-----") || strings.Contains(string(entry), "PRIVATE") {
		t.Errorf("the entry is %s, %v", entry, err)
	}

	again := newManager(t, p, store, host)
	again.KeySource = source
	next := listen(t)
	if leaf := mustVisit(t, serveTLS(t, next, again.TLSConfig()), host, p.roots, nil); !leaf.Equal(first) {
		t.Error("another certificate is served after a restart")
	}
	again.close(t)
	if n := again.traffic.sent(newOrder); n > 0 {
		t.Errorf("%d orders after a restart", n)
	}
}
