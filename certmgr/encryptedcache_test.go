package certmgr_test

import (
	"bytes"
	"testing"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

// A Cache that is in use can be encrypted: nothing is ordered again. A lost key
// is an outage of the Cache: nothing is ordered, and the account keeps its key.
func TestCacheIsEncryptedWithoutANewOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		encrypt := func(key byte) *cache.EncryptedCache {
			c, err := cache.Encrypted(w.cache.Cache, bytes.Repeat([]byte{key}, cache.KeySize))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		restart := func(c certmgr.Cache) {
			t.Helper()
			if err := w.m.Close(); err != nil {
				t.Fatal(err)
			}
			w.m = w.manager()
			w.m.Cache = c
			w.reach()
		}

		leaf := w.mustGet("a.example.com").Leaf
		restart(encrypt(1))
		if !w.mustGet("a.example.com").Leaf.Equal(leaf) {
			t.Error("the plain entry was not taken over")
		}
		if _, err := encrypt(1).Rewrite(t.Context()); err != nil {
			t.Fatal(err)
		}
		only := encrypt(1)
		only.RefusePlain = true
		restart(only)
		if !w.mustGet("a.example.com").Leaf.Equal(leaf) {
			t.Error("the encrypted entry was not taken over")
		}
		w.mustGet("b.example.com") // with the account of before

		restart(encrypt(2))
		for _, host := range []string{"a.example.com", "c.example.com"} {
			if _, err := w.get(host); err == nil {
				t.Errorf("%s is served without the key", host)
			}
		}
		if orders, accounts := w.ca.Count(acmetest.NewOrder), len(w.ca.Accounts()); orders != 2 || accounts != 1 {
			t.Errorf("%d orders and %d accounts, want 2 and 1", orders, accounts)
		}
	})
}
