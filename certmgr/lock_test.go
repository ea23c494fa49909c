package certmgr_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// deleting is a Cache whose deletes are preceded by something.
type deleting struct {
	certmgr.Cache
	before func(ctx context.Context, key string)
}

func (c deleting) Delete(ctx context.Context, key string) error {
	c.before(ctx, key)
	return c.Cache.Delete(ctx, key)
}

// slowKey is an account key whose signatures wait, while it hangs, until it is released.
type slowKey struct {
	*ecdsa.PrivateKey
	hangs    atomic.Bool
	released chan struct{}
}

func (k *slowKey) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if k.hangs.Load() {
		<-k.released
	}
	return k.PrivateKey.Sign(r, digest, o)
}

func newSlowKey(t *testing.T) *slowKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &slowKey{PrivateKey: key, released: make(chan struct{})}
}

// The next issuance for a host begins when the one before has left nothing behind. Who
// waits for that one does not wait for it.
func TestNextIssuanceForAHostWaitsForTheCleanUp(t *testing.T) {
	const takes = 3 * time.Second
	for name, outcome := range map[string]string{"issued": "", "failed": "connection"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Cache = deleting{w.cache, func(_ context.Context, key string) {
					if strings.HasSuffix(key, "+token") {
						time.Sleep(takes)
					}
				}}
				if outcome != "" {
					w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: outcome})
				}
				start := time.Now()
				w.get("a.example.com")
				told := time.Since(start)
				if told >= takes {
					t.Errorf("who waited was told after %v", told)
				}
				if certmgr.LockIsFree(w.m, "a.example.com") {
					t.Error("the lock is free before the clean-up has ended")
				}
				w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: "a.example.com", CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}})
				began := w.events.of(audit.IssuanceStarted)
				if outcome != "" { // it was known when its turn came
					if len(began) != 1 {
						t.Errorf("%d issuances began", len(began))
					}
				} else if len(began) != 2 || began[1].Time.Sub(start) < told+takes {
					t.Errorf("%d issuances began, the last %v after the start; the clean-up ended after %v",
						len(began), began[len(began)-1].Time.Sub(start), told+takes)
				}
				time.Sleep(time.Minute)
				if !certmgr.LockIsFree(w.m, "a.example.com") {
					t.Error("the lock is held")
				}
			})
		})
	}
}

// Nor does it begin before the outcome is known, however soon the clean-up has ended.
func TestNextIssuanceForAHostWaitsForTheOutcome(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.put(func(_ context.Context, key string) error {
			if key == "a.example.com" {
				time.Sleep(patience / 2)
				if certmgr.LockIsFree(w.m, "a.example.com") {
					t.Error("the lock is free before the outcome is known")
				}
			}
			return nil
		})
		w.mustGet("a.example.com")
		synctest.Wait()
		if !certmgr.LockIsFree(w.m, "a.example.com") {
			t.Error("the lock is held")
		}
	})
}

// An attempt that does not return when its time is over keeps the lock until it does.
// Its outcome is known before.
func TestAttemptThatDoesNotReturnKeepsTheLock(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		k := newSlowKey(t)
		w.m.Client.Key = k
		w.m.HandshakeWait = 4 * time.Minute
		w.mustGet("b.example.com") // so that there is an account
		k.hangs.Store(true)
		if _, err := w.get("a.example.com"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if certmgr.LockIsFree(w.m, "a.example.com") {
			t.Error("the lock is free while the attempt goes on")
		}
		close(k.released)
		synctest.Wait()
		if !certmgr.LockIsFree(w.m, "a.example.com") {
			t.Error("the lock is held after the attempt has returned")
		}
		time.Sleep(2 * time.Hour)
		w.mustGet("a.example.com")
	})
}

// An attempt that cannot begin leaves the lock free.
func TestAttemptThatDoesNotBeginKeepsNoLock(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = 4 * time.Minute
		w.mustGet("b.example.com")
		taken := make(chan struct{})
		go certmgr.HoldAttempt(t.Context(), w.m, "a.example.com", taken)
		synctest.Wait()
		_, err := w.get("a.example.com")
		close(taken)
		if !errors.Is(err, certmgr.ErrBusy) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if !certmgr.LockIsFree(w.m, "a.example.com") {
			t.Error("the lock is held")
		}
		time.Sleep(2 * time.Hour)
		w.mustGet("a.example.com")
	})
}

// Close waits for the clean-up of an attempt, and names the callback that holds it up.
func TestCloseWaitsForTheCleanUp(t *testing.T) {
	cases := map[string]struct {
		attempt func(w *world) // until Close comes
		hangs   bool
	}{
		"it is under way":                  {func(w *world) { w.mustGet("a.example.com") }, false},
		"it hangs":                         {func(w *world) { w.mustGet("a.example.com") }, true},
		"Close ends the attempt":           {validation, false},
		"Close ends the attempt, it hangs": {validation, true},
		"the attempt ends late":            {lateKey, false},
		"the attempt ends late, it hangs":  {lateKey, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Cache = deleting{w.cache, func(_ context.Context, key string) {
					if time.Sleep(time.Second); c.hangs && strings.HasSuffix(key, "+token") {
						w.cache.hang()
					}
				}}
				c.attempt(w)
				err := w.m.Close()
				if c.hangs {
					if err == nil || !strings.Contains(err.Error(), `Cache.Put or Delete have not returned: ["a.example.com+token"]`) {
						t.Errorf("Close = %v", err)
					}
					return
				}
				if _, miss := w.cache.Get(t.Context(), "a.example.com+token"); err != nil || !errors.Is(miss, certmgr.ErrCacheMiss) || !certmgr.LockIsFree(w.m, "a.example.com") {
					t.Errorf("Close = %v; an answer (%v) or the lock was left behind", err, miss)
				}
			})
		})
	}
}

// validation begins an attempt that waits for the CA.
func validation(w *world) {
	w.ca.Stall(acmetest.Match{Endpoint: acmetest.Challenge})
	go w.get("a.example.com")
	time.Sleep(time.Second)
}

// lateKey begins an attempt whose account key hangs until 2 seconds after Close.
func lateKey(w *world) {
	k := newSlowKey(w.t)
	w.m.Client.Key = k
	w.cache.put(func(_ context.Context, key string) error {
		k.hangs.Store(strings.HasSuffix(key, "+token"))
		return nil
	})
	go w.get("a.example.com")
	time.Sleep(time.Second)
	time.AfterFunc(2*time.Second, func() { close(k.released) })
}
