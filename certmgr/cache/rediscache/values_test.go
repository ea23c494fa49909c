package rediscache_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/servertest"
)

// A value of 16 MiB is stored whole, with and without a lease, also when the
// server does not know the script.
func TestLargeValue(t *testing.T) {
	for _, d := range deployments {
		t.Run(d.name, func(t *testing.T) {
			client := d.start(t).connect(t)
			c := newCache(t, client)
			value := make([]byte, 16<<20)
			rand.NewChaCha8([32]byte{}).Read(value)
			guarded := cache.Guard(t.Context(), lock(t, c, "machine"))
			for i := range byte(2) {
				value[0] = i
				if err := client.ScriptFlush(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				if err := c.Put(guarded, host, value); err != nil {
					t.Fatal(err)
				}
				got, err := c.Get(t.Context(), host)
				if err != nil || !bytes.Equal(got, value) {
					t.Fatalf("Get returns %d bytes, %v, want the %d that were put", len(got), err, len(value))
				}
			}
		})
	}
}

// The contract knows fewer characters, but no key of any kind may reach another
// one.
func TestOddKeys(t *testing.T) {
	c := newCache(t, connect(t, servertest.StartRedis(t)))
	keys := []string{
		"", " ", "a b", "a\nb", "a\x00b", "a\x00c", "*", "?", "[ab]", "\\*", "{other}", "}{", "{", "}", ":", "entry:a", "lock:a", "token",
		"\xff\xfe", "ä", "A", "a", "A+rsa", strings.Repeat("k", 1<<16), strings.Repeat("k", 1<<16) + "k",
	}
	for _, key := range keys {
		if err := c.Put(t.Context(), key, []byte("value of "+key)); err != nil {
			t.Errorf("Put(%.20q): %v", key, err)
		}
	}
	got, err := c.GetMany(t.Context(), keys)
	if err != nil || len(got) != len(keys) {
		t.Errorf("GetMany returns %d values, %v, want %d", len(got), err, len(keys))
	}
	for i, key := range keys {
		if string(got[key]) != "value of "+key {
			t.Errorf("the value of %.20q is %.40q", key, got[key])
		}
		if _, err := c.Lock(t.Context(), key+"x", "machine", long); err != nil {
			t.Errorf("Lock(%.20q): %v", key, err)
		}
		if err := c.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete(%.20q): %v", key, err)
		}
		left := 0
		for _, err := range c.Keys(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			left++
		}
		if want := len(keys) - i - 1; left != want {
			t.Errorf("after Delete(%.20q) %d keys are left, want %d", key, left, want)
		}
	}
}

// Many entries are read in several requests, and those without an entry are left
// out.
func TestGetMany(t *testing.T) {
	for _, d := range deployments {
		t.Run(d.name, func(t *testing.T) {
			c := newCache(t, d.start(t).connect(t))
			const entries = 250
			var keys []string
			for i := range 2 * entries {
				keys = append(keys, fmt.Sprintf("host-%d.example.com", i))
				if i%2 == 0 {
					if err := c.Put(t.Context(), keys[i], []byte(keys[i])); err != nil {
						t.Fatal(err)
					}
				}
			}
			got, err := c.GetMany(t.Context(), keys)
			if err != nil || len(got) != entries {
				t.Errorf("GetMany returns %d values, %v, want %d", len(got), err, entries)
			}
			for key, value := range got {
				if string(value) != key {
					t.Errorf("the value of %q is %q", key, value)
				}
			}
			if got, err := c.GetMany(t.Context(), nil); err != nil || len(got) != 0 {
				t.Errorf("GetMany of nothing returns %q, %v", got, err)
			}
		})
	}
}

// What is no entry is an error: it is not certain that there is none.
func TestGetManyOfAnotherType(t *testing.T) {
	server := servertest.StartRedis(t)
	c := newCache(t, connect(t, server))
	server.CLI("LPUSH", "{certmgr}:entry:list.example.com", "value")
	if got, err := c.GetMany(t.Context(), []string{host, "list.example.com"}); err == nil || errors.Is(err, cache.ErrMiss) {
		t.Errorf("GetMany returns %q, %v, want an error", got, err)
	}
}
