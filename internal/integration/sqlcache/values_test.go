package sqlcache_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/sqlcache"
)

// testLargeValues checks values of up to 16 MiB: they are stored whole, or the
// error says why not, and the cache goes on.
func testLargeValues(t *testing.T, d *database) {
	ctx := t.Context()
	c, _ := d.cache(t)
	random := rand.NewChaCha8([32]byte{})
	sizes := []int{16 << 20}
	if d.dialect == sqlcache.MariaDB {
		sizes = append(sizes, 4<<20)
	}
	for _, size := range sizes {
		data := make([]byte, size)
		random.Read(data)
		err := c.Put(ctx, "key", data)
		if err != nil {
			if d.dialect != sqlcache.MariaDB || !strings.Contains(err.Error(), "max_allowed_packet") {
				t.Errorf("a value of %d bytes: error %v", size, err)
			}
			continue
		}
		if d.dialect == sqlcache.MariaDB && size > 15<<20 {
			t.Error("MariaDB takes more than its documentation says")
		}
		if got, err := c.Get(ctx, "key"); !bytes.Equal(got, data) {
			t.Errorf("a value of %d bytes is returned with %d bytes, error %v", size, len(got), err)
		}
	}
	if err := c.Put(ctx, "key", []byte("value")); err != nil {
		t.Errorf("after a value that is too large: %v", err)
	}
}

// testMany reads and lists more entries than fit into one query, with one
// connection, which is in use by nobody while a list is read.
func testMany(t *testing.T, d *database) {
	ctx := t.Context()
	_, prefix := d.cache(t)
	db := d.open(t)
	db.SetMaxOpenConns(1)
	c := d.machine(t, db, prefix)
	const entries = 450
	var keys []string
	for i := range entries {
		key := fmt.Sprintf("Host-%d.example.com", i)
		if err := c.Put(ctx, key, []byte(key)); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key, strings.ToLower(key)) // of which one is there
	}
	values, err := c.GetMany(ctx, keys)
	if err != nil || len(values) != entries {
		t.Fatalf("%d values were read, error %v, want %d", len(values), err, entries)
	}
	for key, value := range values {
		if key != string(value) {
			t.Errorf("entry %q is %q", key, value)
		}
	}
	if _, err := c.Get(ctx, strings.ToLower(keys[0])); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("an entry whose key differs by case: error %v", err)
	}
	if values, err := c.GetMany(ctx, nil); len(values) != 0 || err != nil {
		t.Errorf("no entries: %v, error %v", values, err)
	}
	// More keys than a query lists.
	exec(t, db, copies[d.dialect](prefix))
	listed := 0
	for key, err := range c.Keys(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if listed++; listed%500 == 0 {
			if _, err := c.Get(ctx, key); err != nil {
				t.Errorf("in a loop over the keys: %v", err)
			}
		}
	}
	if want := entries * 5; listed != want {
		t.Errorf("%d keys are listed, want %d", listed, want)
	}

	for _, key := range []string{"", strings.Repeat("x", 513), "a\x00b"} {
		_, get := c.Get(ctx, key)
		_, many := c.GetMany(ctx, []string{key})
		_, lock := c.Lock(ctx, key, "owner", ttl)
		for _, err := range []error{get, many, lock, c.Put(ctx, key, nil), c.Delete(ctx, key)} {
			if err == nil || errors.Is(err, cache.ErrMiss) {
				t.Errorf("a key of %d bytes: error %v", len(key), err)
			}
		}
	}
}

// copies returns a statement that makes five entries of each.
var copies = map[sqlcache.Dialect]func(prefix string) string{
	sqlcache.PostgreSQL: func(p string) string {
		return "INSERT INTO " + p + "entries SELECT name || '+' || n, data FROM " + p + "entries, generate_series(1, 4) AS n"
	},
	sqlcache.MariaDB: func(p string) string {
		return "INSERT INTO " + p + "entries SELECT concat(name, '+', seq), data FROM " + p + "entries, seq_1_to_4"
	},
	sqlcache.SQLite: func(p string) string {
		return "INSERT INTO " + p + "entries SELECT name || '+' || value, data FROM " + p + "entries, json_each('[1,2,3,4]')"
	},
}
