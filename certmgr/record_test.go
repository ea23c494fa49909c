package certmgr_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// isRecord says the rule in other words than the code: what autocert writes is
// no record.
func isRecord(key string) bool {
	switch {
	case key == accountCacheKey, key == "acme_account.key":
		return false
	case strings.HasSuffix(key, ".example.com"), strings.HasSuffix(key, ".example.com+rsa"), strings.HasSuffix(key, ".example.com+token"):
		return false
	}
	return !strings.HasSuffix(key, "+http-01")
}

// recordFaults are the ways in which a cache fails for records only.
func recordFaults() map[string]func(w *world, ctx context.Context) error {
	return map[string]func(w *world, ctx context.Context) error{
		"error":                         func(*world, context.Context) error { return errors.New("requested host is invalid") },
		"short names":                   func(*world, context.Context) error { return errors.New("file name too long") },
		"hang that honours its context": func(_ *world, ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"hang that does not":            func(w *world, _ context.Context) error { w.cache.hang(); return nil },
		"panic":                         func(*world, context.Context) error { panic("boom") },
	}
}

// A cache that fails for every record blocks nothing: not a first certificate,
// not a restart, not a renewal, not the way out of a failure.
func TestRecordsThatFailBlockNothing(t *testing.T) {
	t.Parallel()
	for name, fault := range recordFaults() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				fail := func(ctx context.Context, key string) error {
					if isRecord(key) {
						return fault(w, ctx)
					}
					return nil
				}
				w.cache.get(fail)
				w.cache.put(fail)
				w.m.HandshakeWait = time.Minute // two reads that hang are 10 s of it
				w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "b.example.com", Count: 1}, 403, nil,
					acmetest.Problem{Type: "unauthorized", Detail: "not today"})
				w.mustGet("a.example.com")
				if _, err := w.get("b.example.com"); err == nil {
					t.Fatal("b.example.com is served, although the CA refused the order")
				}
				time.Sleep(2 * time.Minute)
				w.mustGet("b.example.com")
				w.cache.release()
				w.restart()
				w.m.HandshakeWait = time.Minute
				w.mustGet("a.example.com")
				w.mustGet("c.example.com")
				time.Sleep(70 * day)
				w.mustGet("a.example.com")
				if n := w.orders("a.example.com"); n != 2 {
					t.Errorf("%d orders for a.example.com, want 2: the renewal is made once", n)
				}
				w.cache.release()
			})
		})
	}
}

// One event a day and kind of record says that records fail, whatever the
// number of hosts, and that it does no harm.
func TestRecordsThatFailAreToldOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		refuse := func(_ context.Context, key string) error {
			if isRecord(key) {
				return errors.New("requested host is invalid")
			}
			return nil
		}
		w.cache.get(refuse)
		w.cache.put(refuse)
		for _, host := range []string{"a.example.com", "b.example.com", "c.example.com", "d.example.com"} {
			w.mustGet(host)
			time.Sleep(10 * time.Minute)
		}
		time.Sleep(20 * time.Hour)
		told := make(map[string]int)
		for _, e := range w.events.of(audit.CacheReadFailed) {
			text := e.String()
			if !strings.Contains(text, "without this entry") || strings.Contains(text, "no order is placed") {
				t.Errorf("the event does not say that it does no harm: %s", text)
			}
			key := text[strings.Index(text, "reading"):]
			key = key[:strings.Index(key, ";")]
			told[key[strings.LastIndexByte(key, '+'):]]++
		}
		for kind, n := range told {
			if n != 1 {
				t.Errorf("%d events of records %s in a day, want 1", n, kind)
			}
		}
		if len(told) == 0 {
			t.Error("nothing says that records cannot be read")
		}
	})
}

// A cache that fails as a whole after the certificate was found missing is not
// taken for one that fails for records only: nothing is ordered.
func TestCacheThatDiesAtTheRecordOrdersNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var dead atomic.Bool
		w.cache.get(func(_ context.Context, key string) error {
			if isRecord(key) {
				dead.Store(true)
			}
			if dead.Load() {
				return errDisk
			}
			return nil
		})
		w.wantErr("a.example.com", certmgr.ErrCache)
		w.wantOrders("a.example.com", 0)
		w.cache.get(nil)
		time.Sleep(failedFor)
		w.mustGet("a.example.com")
	})
}

// A cache of autocert's keys alone, and a first registration that fails: the
// account is registered later all the same, also after a restart.
func TestAccountKeyThatWasNeverRegisteredIsUsed(t *testing.T) {
	for _, restart := range []bool{false, true} {
		inBubble(t, func(t *testing.T, w *world) {
			w.cache.get(func(_ context.Context, key string) error {
				if isRecord(key) {
					return errors.New("requested host is invalid")
				}
				return nil
			})
			fault := w.ca.Drop(acmetest.Match{Endpoint: acmetest.NewAccount})
			if _, err := w.get("a.example.com"); err == nil {
				t.Fatal("served without an account")
			}
			fault.Lift()
			if restart {
				w.restart()
			}
			time.Sleep(time.Hour)
			w.mustGet("a.example.com")
		})
	}
}

// An error of Get that may be a miss is an error, and says how to report a
// miss.
func TestErrorsThatMayBeMissesSaySo(t *testing.T) {
	for text, hint := range map[string]bool{
		"redis: nil":                       true,
		"sql: no rows in result set":       true,
		"api error NoSuchKey: not here":    true,
		"rpc error: code = NotFound":       true,
		"storage: object doesn't exist":    true,
		"redigo: nil returned":             true,
		"mongo: no documents in result":    true,
		"open certs: no such file":         true,
		"connection refused":               false,
		"context deadline exceeded":        false,
		fs.ErrNotExist.Error():             true,
		"lookup redis.internal: time-out":  false,
		"dial tcp 192.0.2.1:6379: refused": false,
	} {
		inBubble(t, func(t *testing.T, w *world) {
			w.cache.get(func(context.Context, string) error { return errors.New(text) })
			err := w.wantErr("a.example.com", certmgr.ErrCache)
			if got := strings.Contains(err.Error(), "certmgr.ErrCacheMiss"); got != hint {
				t.Errorf("%q: the error speaks of ErrCacheMiss: %v, want %v: %v", text, got, hint, err)
			}
			w.wantOrders("a.example.com", 0)
		})
	}
}

// nilCache returns neither an entry nor an error for a key without one.
type nilCache struct{ *faultyCache }

func (c nilCache) Get(ctx context.Context, key string) ([]byte, error) {
	data, err := c.faultyCache.Get(ctx, key)
	if errors.Is(err, cache.ErrMiss) {
		return nil, nil
	}
	return data, err
}

// Neither an entry nor an error is a miss. That is told once.
func TestNeitherEntryNorErrorIsAMiss(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Cache = nilCache{w.cache}
		w.mustGet("a.example.com")
		time.Sleep(time.Hour)
		w.mustGet("b.example.com")
		if told := w.events.of(audit.ConfigurationWarning); len(told) != 1 || !strings.Contains(told[0].Reason, "certmgr.ErrCacheMiss") {
			t.Errorf("told: %v, want one event that says what Get has to return", told)
		}
		if n := len(w.events.of(audit.CacheEntryRejected)); n != 0 {
			t.Errorf("%d entries were rejected", n)
		}
	})
}

// strictCache fails to delete what is not there.
type strictCache struct {
	*faultyCache
	missing error
}

func (c strictCache) Delete(ctx context.Context, key string) error {
	if _, err := c.faultyCache.Get(ctx, key); err != nil {
		return c.missing
	}
	return c.faultyCache.Delete(ctx, key)
}

// Nothing that certmgr deletes has to be there.
func TestDeletesOfNothingAreQuiet(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Cache = strictCache{w.cache, errors.New("storage: object doesn't exist")}
		for _, host := range []string{"a.example.com", "b.example.com"} {
			w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: host, Count: 1}, 500, nil, acmetest.Problem{Type: "serverInternal"})
			w.get(host)
			time.Sleep(10 * time.Minute)
			w.mustGet(host)
		}
		if err := w.m.RollAccountKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.m.Revoke(t.Context(), "a.example.com", acme.CRLReasonSuperseded); err != nil {
			t.Fatal(err)
		}
		w.cache.Cache.Delete(t.Context(), "b.example.com")
		if err := w.m.Revoke(t.Context(), "b.example.com", acme.CRLReasonSuperseded); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // for the successors of what was revoked: Close would interrupt them
		w.m.Close()
		for _, e := range w.events.of(audit.CacheWriteFailed) {
			t.Errorf("told: %v", e)
		}
	})
}
