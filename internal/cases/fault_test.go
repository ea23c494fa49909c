package cases

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

// faultMode is the fault of one operation of a faultyCache.
type faultMode string

const (
	fails     faultMode = "fails"
	late      faultMode = "takes effect and fails"
	panics    faultMode = "panics"
	hangs     faultMode = "hangs for a minute"
	dies      faultMode = "dies, and so do all after it"
	diesAfter faultMode = "takes effect, and all after it die"
)

// visitsPart is the end of the key of an entry that is written on its own
// schedule.
const visitsPart = "certmgr+visits"

var errFault = errors.New("injected")

// faultyCache is a cache with a fault in one operation.
type faultyCache struct {
	cache.Memory
	at   int // counted from 1
	mode faultMode

	mu   sync.Mutex
	n    int
	dead bool
}

// do runs an operation, or not.
func (c *faultyCache) do(key string, operation func() error) error {
	c.mu.Lock()
	if !strings.HasSuffix(key, visitsPart) {
		c.n++
	}
	hit := c.n == c.at && !c.dead && !strings.HasSuffix(key, visitsPart)
	dead := c.dead
	if hit {
		c.dead = c.mode == dies || c.mode == diesAfter
	}
	c.mu.Unlock()
	switch {
	case dead:
		return errFault
	case !hit:
		return operation()
	}
	switch c.mode {
	case late, diesAfter:
		operation()
	case panics:
		panic(errFault)
	case hangs:
		time.Sleep(time.Minute)
	}
	return errFault
}

func (c *faultyCache) Get(ctx context.Context, key string) (data []byte, err error) {
	err = c.do(key, func() (e error) { data, e = c.Memory.Get(context.WithoutCancel(ctx), key); return e })
	return data, err
}

func (c *faultyCache) Put(ctx context.Context, key string, data []byte) error {
	return c.do(key, func() error { return c.Memory.Put(context.WithoutCancel(ctx), key, data) })
}

func (c *faultyCache) Delete(ctx context.Context, key string) error {
	return c.do(key, func() error { return c.Memory.Delete(context.WithoutCancel(ctx), key) })
}

// life is the result of a host's first days.
type life struct{ operations, accounts, orders, issued int }

// live runs a first issuance, a change of the account key, a renewal and a
// restart, with a fault in one operation of the cache.
func live(t *T, mode faultMode, at int) (l life) {
	t.Helper()
	short := func(ca *acmetest.Server) { ca.Lifetime = 6 * 24 * time.Hour } // so that a life is
	bubbleCA(t, short, func(t *T, w *world) {
		c := &faultyCache{at: at, mode: mode}
		w.cache = c
		w.restart()
		visit := func() {
			for range 3 {
				w.get(host)
				time.Sleep(2 * time.Minute)
			}
		}
		visit()
		w.m.RollAccountKey(t.Context())
		time.Sleep(4 * 24 * time.Hour)
		visit()
		w.m.Close()
		c.mu.Lock()
		l.operations = c.n
		c.at, c.dead = -1, false // the next process finds a cache that works
		c.mu.Unlock()
		w.restart()
		if took, err := w.until(host, time.Minute, 7*time.Hour); err != nil {
			t.Errorf("not in service after %v: %v", took, err)
		}
		if err := w.m.Renew(t.Context(), host); err != nil {
			t.Errorf("Renew at the end: %v", err)
		}
		l.accounts, l.orders, l.issued = len(w.ca.Accounts()), w.newOrders(), w.issued()
	})
	return l
}

// Tried by a hostile review, and held: a fault in one operation of the cache
// loses no account and costs at most one more certificate.
func TestFaultOfTheCacheCostsOneCertificateAtMost(t *testing.T) {
	var sound life
	table.Run(t, "held/no fault", func(t *T) {
		if sound = live(t, fails, -1); sound.accounts != 1 || sound.issued != 3 {
			t.Fatalf("%+v, want 1 account and 3 certificates", sound)
		}
	})
	for _, mode := range []faultMode{fails, late, panics, hangs, dies, diesAfter} {
		table.Run(t, "held/cache "+string(mode), func(t *T) {
			for at := 1; at <= sound.operations; at++ {
				l := live(t, mode, at)
				if l.accounts != 1 || l.issued > sound.issued+1 || l.orders > sound.orders+2 {
					t.Errorf("operation %d: %+v; without it %+v", at, l, sound)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}
