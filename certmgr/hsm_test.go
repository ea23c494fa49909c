package certmgr_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/internal/bundle"
)

// hsmKey is a private key that only signs. As users' types may, it cannot be
// compared.
type hsmKey struct {
	key crypto.Signer
	_   []byte
}

func (k hsmKey) Public() crypto.PublicKey { return k.key.Public() }
func (k hsmKey) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.key.Sign(r, digest, opts)
}

// hsm is a hardware module in software, with a key for each host.
type hsm struct {
	mu    sync.Mutex
	keys  map[string]crypto.Signer
	calls int
	fault func(ctx context.Context) (crypto.Signer, error) // nil while it works
	open  bool                                             // its keys can be exported
}

func (h *hsm) source(ctx context.Context, host string) (crypto.Signer, error) {
	h.mu.Lock()
	h.calls++
	fault := h.fault
	h.mu.Unlock()
	if fault != nil {
		return fault(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keys[host] == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		if h.keys == nil {
			h.keys = make(map[string]crypto.Signer)
		}
		h.keys[host] = key
	}
	if h.open {
		return h.keys[host], nil
	}
	return hsmKey{key: h.keys[host]}, nil
}

// fail makes it fail, or work again.
func (h *hsm) fail(f func(ctx context.Context) (crypto.Signer, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = f
}

// asked returns how often it was asked for a key.
func (h *hsm) asked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls
}

func (h *hsm) forget(host string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.keys, host)
}

// withHSM has the Manager take its keys from a hardware module.
func withHSM(t *testing.T, f func(t *testing.T, w *world, h *hsm)) {
	t.Helper()
	inBubble(t, func(t *testing.T, w *world) {
		h := new(hsm)
		w.m.KeySource = h.source
		f(t, w, h)
	})
}

// restartWith is restart with the same KeySource.
func (w *world) restartWith(h *hsm) {
	w.t.Helper()
	w.restart()
	w.m.KeySource = h.source
}

var errHSM = errors.New("the module is on fire")

func onFire(context.Context) (crypto.Signer, error) { return nil, errHSM }

// keyFaults are what KeySource may do instead of returning a key for ECDSA
// certificates, and what the error says.
func keyFaults(t *testing.T) map[string]func(ctx context.Context) (crypto.Signer, error) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	huge := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Lsh(small.N, 8000), E: small.E}}
	is := func(key crypto.Signer) func(context.Context) (crypto.Signer, error) {
		return func(context.Context) (crypto.Signer, error) { return key, nil }
	}
	return map[string]func(ctx context.Context) (crypto.Signer, error){
		"the module is on fire":      onFire,
		"neither a key nor an error": is(nil),
		"keys of type ed25519":       is(ed),
		"P-224":                      is(p224),
		"1024 bits":                  is(small),
		"9024 bits":                  is(huge),
		"set KeyType to the type":    is(testKeys()[bundle.RSA]),
		"panicked: boom":             func(context.Context) (crypto.Signer, error) { panic("boom") },
		"nil pointer":                is((*ecdsa.PrivateKey)(nil)),
		"did not return":             func(context.Context) (crypto.Signer, error) { time.Sleep(time.Minute); return nil, errHSM },
		"context deadline":           func(ctx context.Context) (crypto.Signer, error) { <-ctx.Done(); return nil, ctx.Err() },
		"cache miss":                 func(context.Context) (crypto.Signer, error) { return nil, certmgr.ErrCacheMiss },
	}
}
