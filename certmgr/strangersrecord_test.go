package certmgr

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/bundle"
)

// keyedCache is a cache that knows its keys.
type keyedCache struct {
	cache.Memory
	mu   sync.Mutex
	keys map[string]bool
}

func (c *keyedCache) note(key string, there bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil {
		c.keys = make(map[string]bool)
	}
	if c.keys[key] = there; !there {
		delete(c.keys, key)
	}
}

func (c *keyedCache) Put(ctx context.Context, key string, data []byte) error {
	c.note(key, true)
	return c.Memory.Put(ctx, key, data)
}

func (c *keyedCache) Delete(ctx context.Context, key string) error {
	c.note(key, false)
	return c.Memory.Delete(ctx, key)
}

// all returns the keys whose name ends with suffix.
func (c *keyedCache) all(suffix string) map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := maps.Clone(c.keys)
	maps.DeleteFunc(keys, func(key string, _ bool) bool { return !strings.HasSuffix(key, suffix) })
	return keys
}

// recordedWorld is a bubble with a Manager that has a policy, and the function that
// has hosts fail.
func recordedWorld(t *testing.T, policy HostPolicy, f func(t *testing.T, entries *keyedCache, fail func(m *Manager, host string, alg bundle.Algorithm), manager func() *Manager)) {
	synctest.Test(t, func(t *testing.T) {
		entries := new(keyedCache)
		var all []*Manager
		manager := func() *Manager {
			m := &Manager{Hosts: MustAllowlist("a.example.com", "*.example.net"), HostPolicy: policy, Cache: entries, Audit: func(context.Context, audit.Event) {}}
			m.init()
			all = append(all, m)
			return m
		}
		fail := func(m *Manager, host string, alg bundle.Algorithm) {
			h := m.engine.report.health
			sub := newSubject(alg, h.dir, host)
			rec := newTestFailure(sub, audit.StageOrder, time.Now().Add(time.Hour))
			rec.err.Attempts = 1
			if rec.trust = m.engine.settings.trustOf(host); rec.trust == notAllowed {
				rec.trust = byPolicy
			}
			h.remember(sub, rec)
			h.saveFailure(t.Context(), sub, rec)
		}
		f(t, entries, fail, manager)
		for _, m := range all {
			m.Close()
		}
	})
}

func allowAll(context.Context, string) error { return nil }

// However many names of strangers fail, and in however many processes, the Cache has at
// most 1,000 records of them, beside those of hosts on the list.
func TestRecordsOfStrangersAreBounded(t *testing.T) {
	recordedWorld(t, allowAll, func(t *testing.T, entries *keyedCache, fail func(*Manager, string, bundle.Algorithm), manager func() *Manager) {
		for process := range 3 {
			m := manager()
			for i := range 1500 {
				fail(m, fmt.Sprintf("p%d-%d.example.net", process, i), bundle.Algorithm(i%2)) // below the wildcard
				fail(m, fmt.Sprintf("www.stranger%d-%d.com", process, i), bundle.ECDSA)       // the policy's
			}
			fail(m, "a.example.com", bundle.ECDSA)
			fail(m, "a.example.com", bundle.RSA)
		}
		synctest.Wait()
		records := entries.all("+failure")
		for _, own := range []string{"a.example.com+failure", "a.example.com+rsa+failure"} {
			if !records[own] {
				t.Errorf("there is no record %q", own)
			}
			delete(records, own)
		}
		if n := len(records); n > 1000 || n < 900 {
			t.Errorf("%d records of strangers, want 1,000 at most, and nearly as many", n)
		}
	})
}

// A stranger's record survives a restart, is named in the error, and goes with a success;
// that of another host under the same key stays.
func TestRecordOfAStrangerIsItsOwn(t *testing.T) {
	mine := "www.tenant.com"
	key := failureKey{mine, scopeHost}.strangersCacheKey()
	other := ""
	for i := 0; other == ""; i++ {
		if host := fmt.Sprintf("www.other%d.com", i); (failureKey{host, scopeHost}).strangersCacheKey() == key {
			other = host
		}
	}
	recordedWorld(t, allowAll, func(t *testing.T, entries *keyedCache, fail func(*Manager, string, bundle.Algorithm), manager func() *Manager) {
		recalled := func(m *Manager, host string) *failure {
			h := m.engine.report.health
			sub := newSubject(bundle.ECDSA, h.dir, host)
			if err := h.recall(t.Context(), sub, grant{trust: byPolicy}); err != nil {
				t.Fatal(err)
			}
			return h.failures.last(sub)
		}
		fail(manager(), mine, bundle.ECDSA)
		m := manager()
		if rec := recalled(m, other); rec != nil {
			t.Errorf("%s has the failure of %s", other, rec.err.Host)
		}
		rec := recalled(m, mine)
		if rec == nil {
			t.Fatal("the failure is forgotten after a restart")
		}
		if rec.err.State = StateBackoff; !strings.Contains(rec.err.Hint(), key) {
			t.Errorf("the hint %q does not name the entry %q", rec.err.Hint(), key)
		}
		h := m.engine.report.health
		h.deleteRecord(t.Context(), failureKey{other, scopeHost}, byPolicy)
		if !entries.all("+failure")[key] {
			t.Error("the record went with another host's")
		}
		h.deleteRecord(t.Context(), failureKey{mine, scopeHost}, byPolicy)
		if entries.all("+failure")[key] {
			t.Error("the record is still there")
		}
	})
}

// Hosts that HostWhitelist names have records of their own, like those on the list.
func TestNamedHostsHaveRecordsOfTheirOwn(t *testing.T) {
	recordedWorld(t, HostWhitelist("white.example.org"), func(t *testing.T, entries *keyedCache, fail func(*Manager, string, bundle.Algorithm), manager func() *Manager) {
		fail(manager(), "white.example.org", bundle.ECDSA)
		if keys := entries.all("+failure"); !keys["white.example.org+failure"] || len(keys) != 1 {
			t.Errorf("the records are %v", keys)
		}
	})
}
