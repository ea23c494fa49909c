package certmgr_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// A key that cannot be exported serves handshakes, is never written, and is found
// again by its public key after a restart and by another machine.
func TestKeyOfAModuleStaysInTheModule(t *testing.T) {
	withHSM(t, func(t *testing.T, w *world, h *hsm) {
		client := &tls.Config{ServerName: "a.example.com", RootCAs: w.ca.Roots()}
		for range 2 {
			leaf, err := w.tlsHandshake(client)
			if err != nil {
				t.Fatal(err)
			}
			if !h.keys["a.example.com"].Public().(*ecdsa.PublicKey).Equal(leaf.PublicKey) {
				t.Error("the certificate is not for the module's key")
			}
			if _, ok := w.mustGet("a.example.com").PrivateKey.(hsmKey); !ok {
				t.Errorf("the key is a %T", w.mustGet("a.example.com").PrivateKey)
			}
			time.Sleep(time.Second)
			data, err := w.cache.Cache.Get(t.Context(), "a.example.com")
			if err != nil || !bytes.HasPrefix(data, []byte("-----BEGIN PUBLIC KEY-----")) || bytes.Contains(data, []byte("PRIVATE")) {
				t.Errorf("the entry is %s, %v", data, err)
			}
			w.restartWith(h)
		}
		w.wantOrders("a.example.com", 1)
	})
}

// A key that can be exported is stored as autocert does, and autocert serves it.
func TestKeyThatCanBeExportedIsStored(t *testing.T) {
	withHSM(t, func(t *testing.T, w *world, h *hsm) {
		h.open = true
		w.mustGet("a.example.com")
		time.Sleep(time.Second)
		data, err := w.cache.Cache.Get(t.Context(), "a.example.com")
		if err != nil {
			t.Fatal(err)
		}
		if key, _, err := bundle.Decode(data); err != nil || !h.keys["a.example.com"].(*ecdsa.PrivateKey).Equal(key) {
			t.Errorf("the entry has another key: %v", err)
		}
		h.fail(onFire)
		w.restartWith(h) // it is not needed
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 1)
	})
}

// autocert takes the entry of such a key for missing, and issues anew.
func TestAutocertIssuesAnewForAKeyOfAModule(t *testing.T) {
	withHSM(t, func(t *testing.T, w *world, h *hsm) {
		w.mustGet("a.example.com")
		time.Sleep(time.Second)
		w.m.Close()
		m := &autocert.Manager{Prompt: autocert.AcceptTOS, Cache: w.cache.Cache, HostPolicy: autocert.HostWhitelist("a.example.com"),
			Client: &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: w.ca.Client()}}
		w.ca.Resolve("*", acmetest.Target{TLSConfig: m.TLSConfig()})
		hello := ecdsaHello("a.example.com")
		if _, err := m.GetCertificate(hello); err != nil {
			t.Error(err)
		}
		w.wantOrders("a.example.com", 2)
	})
}

// A KeySource that fails costs no order, whatever it does, and the error blames
// it and not the CA. Other hosts are served, and the host itself once it works.
func TestBrokenKeySourceCostsNoOrder(t *testing.T) {
	for says, fault := range keyFaults(t) {
		t.Run(says, func(t *testing.T) {
			withHSM(t, func(t *testing.T, w *world, h *hsm) {
				w.m.HandshakeWait = time.Minute
				h.fail(func(ctx context.Context) (crypto.Signer, error) { return fault(ctx) })
				_, err := w.get("a.example.com")
				var failed *certmgr.IssuanceError
				if !errors.Is(err, certmgr.ErrKeySource) || !errors.As(err, &failed) || failed.Stage != audit.StageKey || !strings.Contains(failed.Error(), says) {
					t.Fatalf("%v", certmgr.InFull(err))
				}
				if strings.Contains(failed.Error(), w.ca.URL) || errors.Is(err, certmgr.ErrCacheMiss) {
					t.Errorf("the error blames another: %v", failed)
				}
				w.wantErr("a.example.com", certmgr.ErrBackoff)
				time.Sleep(2 * time.Minute)
				h.fail(nil)
				w.mustGet("b.example.com")
				time.Sleep(time.Hour)
				w.mustGet("a.example.com")
				w.wantOrders("a.example.com", 1)
				if down := w.events.of(audit.CAUnavailable); len(down) > 0 {
					t.Errorf("the CA is blamed: %v", down)
				}
			})
		})
	}
}

// A certificate in the Cache whose key cannot be had is an error and no reason to
// order another one. Handshakes fail at once after the first, and it is served
// when the module works again.
func TestKeyOfACachedCertificateThatCannotBeHad(t *testing.T) {
	for name, fault := range map[string]func(context.Context) (crypto.Signer, error){
		"fails": onFire,
		"times out": func(ctx context.Context) (crypto.Signer, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"ignores its context": func(context.Context) (crypto.Signer, error) {
			time.Sleep(time.Hour)
			return nil, errHSM
		},
	} {
		t.Run(name, func(t *testing.T) {
			withHSM(t, func(t *testing.T, w *world, h *hsm) {
				w.mustGet("a.example.com")
				time.Sleep(time.Second)
				w.restartWith(h)
				h.fail(fault)
				start := time.Now()
				_, err := w.get("a.example.com")
				if !errors.Is(err, certmgr.ErrKeySource) || time.Since(start) > 5100*time.Millisecond {
					t.Errorf("after %v: %v", time.Since(start), err)
				}
				calls := h.asked()
				for range 100 {
					w.wantErr("a.example.com", certmgr.ErrKeySource)
				}
				if h.asked() != calls {
					t.Errorf("asked %d times more", h.asked()-calls)
				}
				rejected := w.events.of(audit.CacheEntryRejected)
				if len(rejected) != 1 || !strings.Contains(rejected[0].Reason, "no order is placed") {
					t.Errorf("events: %v", rejected)
				}
				h.fail(nil)
				time.Sleep(2 * time.Hour)
				w.mustGet("a.example.com")
				w.wantOrders("a.example.com", 1)
			})
		})
	}
}

// If the module has another key, or there is none any more, the certificate is
// issued anew.
func TestKeyOfACachedCertificateThatIsGone(t *testing.T) {
	for _, without := range []bool{false, true} {
		withHSM(t, func(t *testing.T, w *world, h *hsm) {
			w.mustGet("a.example.com")
			time.Sleep(time.Second)
			w.restartWith(h)
			h.forget("a.example.com")
			if without {
				w.m.KeySource = nil
			}
			w.mustGet("a.example.com")
			w.wantOrders("a.example.com", 2)
			rejected := w.events.of(audit.CacheEntryRejected)
			if len(rejected) != 1 || !strings.Contains(rejected[0].Err.Error(), "private key is gone") {
				t.Errorf("events: %v", rejected)
			}
		})
	}
}

// A renewal takes the key that KeySource returns then: the same for DANE.
func TestRenewalHasTheKeyOfKeySource(t *testing.T) {
	withHSM(t, func(t *testing.T, w *world, h *hsm) {
		first := w.mustGet("a.example.com").Leaf
		time.Sleep(65 * day)
		second := w.mustGet("a.example.com").Leaf
		if second.Equal(first) || !bytes.Equal(second.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
			t.Error("the renewal has another key")
		}
		h.fail(onFire)
		time.Sleep(80 * day)
		if !w.mustGet("a.example.com").Leaf.Equal(second) {
			t.Error("renewed without the module")
		}
		w.wantOrders("a.example.com", 2)
	})
}

// A key that was revoked as compromised is refused, without an order and without a
// loop, until KeySource returns another one.
func TestCompromisedKeyOfKeySourceIsRefused(t *testing.T) {
	withHSM(t, func(t *testing.T, w *world, h *hsm) {
		w.mustGet("a.example.com")
		if err := w.m.Revoke(t.Context(), "a.example.com", acme.CRLReasonKeyCompromise); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		if h.asked() > 10 {
			t.Errorf("asked %d times", h.asked())
		}
		_, err := w.get("a.example.com")
		if !errors.Is(err, certmgr.ErrKeySource) || !strings.Contains(certmgr.InFull(err).Error(), "compromised") {
			t.Errorf("%v", err)
		}
		w.wantOrders("a.example.com", 1)
		h.forget("a.example.com")
		time.Sleep(2 * time.Hour)
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 2)
	})
}

// With KeySource there is one algorithm: clients that cannot verify it cause no
// attempts.
func TestClientsThatCannotVerifyKeysOfKeySourceCauseNothing(t *testing.T) {
	withHSM(t, func(t *testing.T, w *world, h *hsm) {
		client := &tls.Config{ServerName: "a.example.com", RootCAs: w.ca.Roots(), MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
		for range 3 {
			if _, err := w.tlsHandshake(client); err == nil {
				t.Error("the client was served")
			}
			time.Sleep(day)
		}
		w.wantOrders("a.example.com", 1)
		if h.asked() != 1 || len(w.events.of(audit.IssuanceFailed)) > 0 {
			t.Errorf("%d calls", h.asked())
		}
	})
}

// RSA keys sign with PSS and PKCS #1, as the client wants.
func TestRSAKeyOfAModule(t *testing.T) {
	withHSM(t, func(t *testing.T, w *world, h *hsm) {
		w.m.KeyType = certmgr.RSA4096 // the source decides on the size
		h.keys = map[string]crypto.Signer{"a.example.com": testKeys()[bundle.RSA]}
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			leaf, err := w.tlsHandshake(&tls.Config{ServerName: "a.example.com", RootCAs: w.ca.Roots(), MinVersion: version, MaxVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			if leaf.PublicKeyAlgorithm != x509.RSA {
				t.Errorf("a client got %v", leaf.PublicKeyAlgorithm)
			}
		}
		time.Sleep(time.Second)
		w.restartWith(h)
		w.m.KeyType = certmgr.RSA4096
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 1)
	})
}

// The order of a process that has ended is resumed with the module's key, and
// waits for it while that fails. If the key is gone, so is the order.
func TestOrderWithAKeyOfAModuleIsResumed(t *testing.T) {
	for _, gone := range []bool{false, true} {
		withHSM(t, func(t *testing.T, w *world, h *hsm) {
			entry := w.strand()
			if key, _ := entry["key"].(string); !strings.HasPrefix(key, "-----BEGIN PUBLIC KEY-----") {
				t.Errorf("the entry has the key %q", key)
			}
			w.restartWith(h)
			h.fail(onFire)
			if err := w.m.Obtain(t.Context(), orderHost); !errors.Is(err, certmgr.ErrKeySource) {
				t.Errorf("%v", err)
			}
			w.wantOrders(orderHost, 1)
			if w.orderEntry(orderKey) == nil {
				t.Error("the entry is lost")
			}
			h.fail(nil)
			orders := 1
			if gone {
				h.forget(orderHost)
				orders = 2
			}
			if err := w.m.Obtain(t.Context(), orderHost); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			w.wantOrders(orderHost, orders)
			if w.orderEntry(orderKey) != nil {
				t.Error("the entry is left")
			}
		})
	}
}

// Both settings are told, and KeySource decides.
func TestKeySourceTakesPrecedenceOverKeepKey(t *testing.T) {
	withHSM(t, func(t *testing.T, w *world, h *hsm) {
		w.m.KeepKey = true
		first := w.mustGet("a.example.com").Leaf
		h.forget("a.example.com")
		time.Sleep(65 * day)
		if second := w.mustGet("a.example.com").Leaf; second.Equal(first) || bytes.Equal(second.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
			t.Error("the renewal has kept the key")
		}
		synctest.Wait()
		if warned := w.events.of(audit.ConfigurationWarning); len(warned) != 1 || !strings.Contains(warned[0].Reason, "KeepKey") {
			t.Errorf("warnings: %v", warned)
		}
	})
}
