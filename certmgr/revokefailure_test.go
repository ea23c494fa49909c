package certmgr_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

// deletingCache is a faultyCache whose deletes do as they are told.
type deletingCache struct {
	*faultyCache
	mu       sync.Mutex
	onDelete func(ctx context.Context, key string) error
}

func (c *deletingCache) Delete(ctx context.Context, key string) error {
	c.mu.Lock()
	f := c.onDelete
	c.mu.Unlock()
	if f != nil {
		if err := f(ctx, key); err != nil {
			return err
		}
	}
	return c.faultyCache.Delete(ctx, key)
}

func (c *deletingCache) delete(f func(ctx context.Context, key string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onDelete = f
}

// deletes gives the Manager a cache whose deletes can be made to fail.
func (w *world) deletes() *deletingCache {
	c := &deletingCache{faultyCache: w.cache}
	w.m.Cache = c
	return c
}

// A certificate that the CA does not revoke stays in service, next to one that
// it revokes.
func TestRevocationThatFailsForOneKeyType(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ec, rs := w.mustGet("a.example.com"), w.mustGetRSA()
		w.ca.Status(acmetest.Match{Endpoint: acmetest.RevokeCert, Count: 1}, http.StatusBadRequest, nil, acmetest.Problem{Type: "malformed"})
		err := w.m.Revoke(t.Context(), "a.example.com", acme.CRLReasonCessationOfOperation)
		if problem, ok := errors.AsType[*acme.Error](err); !ok || problem.StatusCode != http.StatusBadRequest {
			t.Errorf("Revoke: %v, want the CA's problem", err)
		}
		w.wantRevoked(rs)
		if n := certmgr.InMemory(w.m, "a.example.com"); n != 1 {
			t.Errorf("%d certificates in memory, want the one that is not revoked", n)
		}
		if !w.mustGet("a.example.com").Leaf.Equal(ec.Leaf) {
			t.Error("the certificate that is not revoked is not served")
		}
	})
}

// If the new certificate fails at first, it is tried again without a handshake.
func TestReplacementOfARevokedCertificateIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusServiceUnavailable, nil, acmetest.Problem{Type: "serverInternal"})
		w.mustRevoke("a.example.com", acme.CRLReasonSuperseded)
		time.Sleep(10 * time.Second)
		w.wantErr("a.example.com", certmgr.ErrBackoff)
		fault.Lift()
		time.Sleep(time.Hour)
		if certmgr.InMemory(w.m, "a.example.com") == 0 {
			t.Error("nobody issued a new certificate after the first failure")
		}
	})
}

func TestFailedDeleteIsReportedAndTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.deletes()
		old := w.mustGet("a.example.com")
		c.delete(func(context.Context, string) error { return errDisk })
		err := w.m.Revoke(t.Context(), "a.example.com", acme.CRLReasonCessationOfOperation)
		if !errors.Is(err, certmgr.ErrCache) || !errors.Is(err, errDisk) || !strings.Contains(err.Error(), "is revoked") {
			t.Fatalf("Revoke: %v, want the cache's error, and that it is revoked all the same", err)
		}
		w.wantRevoked(old)
		if certmgr.InMemory(w.m, "a.example.com") != 0 {
			t.Error("the certificate is still in memory")
		}
		c.delete(nil)
		time.Sleep(time.Minute)
		if _, err := c.Get(t.Context(), "a.example.com"); !errors.Is(err, certmgr.ErrCacheMiss) {
			t.Errorf("the delete was not tried again: %v", err)
		}
		if n := len(w.events.of(audit.CacheWriteRecovered)); n != 1 {
			t.Errorf("%d events of the recovery, want 1", n)
		}
	})
}

// A delete that is tried again leaves the new certificate's entry alone.
func TestRetriedDeleteSparesTheNewEntry(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.deletes()
		w.mustGet("a.example.com")
		c.delete(func(_ context.Context, key string) error {
			if key == "a.example.com" {
				return errDisk
			}
			return nil
		})
		if err := w.m.Revoke(t.Context(), "a.example.com", acme.CRLReasonSuperseded); !errors.Is(err, errDisk) {
			t.Fatalf("Revoke: %v", err)
		}
		time.Sleep(2 * time.Second)
		c.delete(nil)
		time.Sleep(time.Hour)
		w.restart()
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 2)
	})
}

// The certificate's own key signs where the account may not, or is none.
func TestRevocationSignedByTheCertificatesKey(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(w *world)
	}{
		{"another account", func(w *world) { w.cache.Cache.Delete(w.t.Context(), accountCacheKey) }},
		{"damaged account key", func(w *world) { w.cache.Cache.Put(w.t.Context(), accountCacheKey, []byte("garbage")) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				old := w.mustGet("a.example.com")
				w.restart()
				tt.spoil(w)
				w.mustRevoke("a.example.com", acme.CRLReasonCessationOfOperation)
				w.wantRevoked(old)
				if e := w.events.of(audit.CertificateRevoked)[0]; !strings.Contains(e.Reason, "the certificate's key") {
					t.Errorf("the event does not say who signed: %v", e)
				}
			})
		})
	}
}

// A failed revocation changes nothing, and its error is the CA's.
func TestFailedRevocationKeepsTheCertificate(t *testing.T) {
	tests := []struct {
		name    string
		spoil   func(w *world)
		reason  acme.CRLReasonCode
		host    string
		is      error
		problem string
		within  time.Duration
	}{
		{name: "the CA is down", spoil: func(w *world) {
			w.ca.Status(acmetest.Match{Endpoint: acmetest.RevokeCert}, http.StatusServiceUnavailable, nil, acmetest.Problem{Type: "serverInternal"})
		}, problem: "serverInternal", within: 10 * time.Second},
		{name: "the CA does not answer", spoil: func(w *world) { w.ca.Stall(acmetest.Match{Endpoint: acmetest.RevokeCert}) },
			is: context.DeadlineExceeded, within: revokeTimeout},
		{name: "reason", reason: acme.CRLReasonCertificateHold, problem: "badRevocationReason"},
		{name: "no account, no answer", spoil: func(w *world) {
			w.restart()
			w.mustGet("a.example.com")
			w.ca.Status(acmetest.Match{Endpoint: acmetest.NewAccount}, http.StatusServiceUnavailable, nil, acmetest.Problem{Type: "serverInternal"})
		}, problem: "serverInternal", within: 10 * time.Second},
		{name: "no certificate", host: "b.example.com", is: certmgr.ErrCacheMiss},
		{name: "no host name", host: "", is: certmgr.ErrNoServerName},
		{name: "unreadable cache", host: "b.example.com", spoil: func(w *world) {
			w.cache.get(func(context.Context, string) error { return errDisk })
		}, is: errDisk},
		{name: "damaged entry", host: "b.example.com", spoil: func(w *world) {
			w.cache.Cache.Put(w.t.Context(), "b.example.com", []byte("garbage"))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				old := w.mustGet("a.example.com")
				if tt.spoil != nil {
					tt.spoil(w)
				}
				host := tt.host
				if host == "" && tt.is != certmgr.ErrNoServerName {
					host = "a.example.com"
				}
				start := time.Now()
				err := w.m.Revoke(t.Context(), host, tt.reason)
				if err == nil || tt.is != nil && !errors.Is(err, tt.is) {
					t.Fatalf("Revoke: %v, want an error that wraps %v", err, tt.is)
				}
				problem, _ := errors.AsType[*acme.Error](err)
				if tt.problem != "" && (problem == nil || !strings.HasSuffix(problem.ProblemType, tt.problem)) {
					t.Errorf("Revoke: %v, want the CA's problem %s", err, tt.problem)
				}
				if !strings.Contains(err.Error(), host) || strings.Contains(err.Error(), "\n") || len(err.Error()) > text.MaxError {
					t.Errorf("the error is not one line that names the host: %q", err)
				}
				if d := time.Since(start); d > tt.within {
					t.Errorf("it took %v, want %v at most", d, tt.within)
				}
				if !w.mustGet("a.example.com").Leaf.Equal(old.Leaf) || len(w.events.of(audit.CertificateRevoked)) != 0 {
					t.Error("the certificate is not served any more")
				}
			})
		})
	}
}

// If the caller stops waiting, the revocation continues.
func TestRevocationOutlivesItsCaller(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		old := w.mustGet("a.example.com")
		fault := w.ca.Stall(acmetest.Match{Endpoint: acmetest.RevokeCert})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.m.Revoke(ctx, "a.example.com", acme.CRLReasonSuperseded); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Revoke: %v", err)
		}
		fault.Lift()
		w.wantRevoked(old)
	})
}

func TestRevokeAfterClose(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.m.Close()
		if err := w.m.Revoke(t.Context(), "a.example.com", acme.CRLReasonSuperseded); !errors.Is(err, certmgr.ErrClosed) {
			t.Errorf("Revoke: %v, want ErrClosed", err)
		}
		if err := w.m.RollAccountKey(t.Context()); !errors.Is(err, certmgr.ErrClosed) {
			t.Errorf("RollAccountKey: %v, want ErrClosed", err)
		}
	})
}

// Close ends a revocation that hangs.
func TestCloseEndsARevocation(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.RevokeCert})
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.m.Revoke(t.Context(), "a.example.com", acme.CRLReasonSuperseded); !errors.Is(err, certmgr.ErrClosed) {
				t.Errorf("Revoke: %v, want ErrClosed", err)
			}
		})
		synctest.Wait()
		if err := w.m.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}
