package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/cachetest"
)

func testKey(b byte) []byte { return bytes.Repeat([]byte{b}, cache.KeySize) }

func mustEncrypt(t *testing.T, c cache.Cache, keys ...[]byte) *cache.EncryptedCache {
	t.Helper()
	e, err := cache.Encrypted(c, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mustPut(t *testing.T, c cache.Cache, key, value string) {
	t.Helper()
	if err := c.Put(t.Context(), key, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func expectValue(t *testing.T, c cache.Cache, key, want string) {
	t.Helper()
	if got, err := c.Get(t.Context(), key); err != nil || string(got) != want {
		t.Errorf("%s is %q, %v, want %q", key, got, err, want)
	}
}

func TestEncryptedConforms(t *testing.T) {
	for name, under := range map[string]func(t *testing.T) cache.Cache{
		"Memory": func(*testing.T) cache.Cache { return new(cache.Memory) },
		"Dir":    func(t *testing.T) cache.Cache { return cache.Dir(t.TempDir()) },
	} {
		t.Run(name, func(t *testing.T) {
			cachetest.Run(t, func(t *testing.T) cache.Cache {
				e := mustEncrypt(t, under(t), testKey(1))
				e.RefusePlain = true
				return e
			})
		})
	}
}

// The store has nothing of a value, and two puts of it look different.
func TestStoreHasNoPlainValue(t *testing.T) {
	store := new(cache.Memory)
	e := mustEncrypt(t, store, testKey(1))
	secret := "-----BEGIN EC PRIVATE KEY-----\nsecret\n"
	mustPut(t, e, "example.com", secret)
	first, _ := store.Get(t.Context(), "example.com")
	mustPut(t, e, "example.com", secret)
	second, _ := store.Get(t.Context(), "example.com")
	if bytes.Contains(first, []byte("secret")) || bytes.Contains(first, []byte("PRIVATE")) || bytes.Equal(first, second) {
		t.Errorf("the store has\n%s\nand then\n%s", first, second)
	}
	if bytes.ContainsFunc(first, func(r rune) bool { return r > '~' || r < ' ' && r != '\n' }) {
		t.Errorf("the entry is no text: %q", first)
	}
}

// Nothing but the entry itself is accepted in its place.
func TestEncryptedEntryCannotBeExchanged(t *testing.T) {
	store := new(cache.Memory)
	e := mustEncrypt(t, store, testKey(1), testKey(2))
	mustPut(t, e, "a.example.com", "key of a")
	entry, _ := store.Get(t.Context(), "a.example.com")
	changed := func(from, to string) []byte { return bytes.Replace(entry, []byte(from), []byte(to), 1) }
	body := entry[bytes.Index(entry, []byte("\n\n"))+2:]
	flipped := bytes.Clone(entry)
	flipped[len(entry)-len(body)+4] ^= 2
	other := mustEncrypt(t, new(cache.Memory), testKey(2))
	mustPut(t, other, "a.example.com", "key of a")
	otherKey, _ := other.Unwrap().Get(t.Context(), "a.example.com")

	for name, tt := range map[string]struct {
		key  string
		data []byte
		want error // nil for any but a miss
	}{
		"another entry's":         {"b.example.com", entry, cache.ErrKey},
		"another key type's":      {"a.example.com+rsa", entry, cache.ErrKey},
		"one bit changed":         {"a.example.com", flipped, nil}, // that may be no base64
		"cut short":               {"a.example.com", entry[:len(entry)/2], nil},
		"something after it":      {"a.example.com", append(bytes.Clone(entry), "-----BEGIN X"...), nil},
		"another key's ID":        {"a.example.com", changed(string(headerOf(entry)), string(headerOf(otherKey))), cache.ErrKey},
		"of a key not there":      {"a.example.com", changed(string(headerOf(entry)), "Key-Id: 0011223344556677"), cache.ErrKey},
		"without the key's ID":    {"a.example.com", changed("Key-Id", "Other"), cache.ErrKey},
		"empty, but for the type": {"a.example.com", []byte("-----BEGIN NOSTALL ENCRYPTED ENTRY-----\n-----END NOSTALL ENCRYPTED ENTRY-----\n"), cache.ErrKey},
	} {
		t.Run(name, func(t *testing.T) {
			if err := store.Put(t.Context(), tt.key, tt.data); err != nil {
				t.Fatal(err)
			}
			got, err := e.Get(t.Context(), tt.key)
			switch {
			case err == nil:
				t.Fatalf("it is read as %q", got)
			case errors.Is(err, cache.ErrMiss), tt.want != nil && !errors.Is(err, tt.want):
				t.Errorf("error %v, want %v", err, tt.want)
			case !strings.Contains(err.Error(), tt.key), strings.Contains(err.Error(), "\n"):
				t.Errorf("error %q does not name the entry in one line", err)
			}
		})
	}
}

func headerOf(entry []byte) []byte {
	return slices.Collect(bytes.Lines(entry))[1][:len("Key-Id: 0011223344556677")]
}

// A store is taken over as it is, encrypted in place, and its key is replaced,
// and nothing is missing at any time.
func TestTakeOverAndRotation(t *testing.T) {
	dir := cache.Dir(t.TempDir())
	for i := range 20 {
		mustPut(t, dir, fmt.Sprintf("h%d.example.com", i), fmt.Sprint("value ", i))
	}
	check := func(c cache.Cache) {
		t.Helper()
		for i := range 20 {
			expectValue(t, c, fmt.Sprintf("h%d.example.com", i), fmt.Sprint("value ", i))
		}
	}
	rewrite := func(e *cache.EncryptedCache, want int) {
		t.Helper()
		if n, err := e.Rewrite(t.Context()); n != want || err != nil {
			t.Errorf("rewrote %d entries, %v, want %d", n, err, want)
		}
	}
	first := mustEncrypt(t, dir, testKey(1))
	check(first)
	mustPut(t, first, "h3.example.com", "value 3")
	rewrite(first, 19)
	rewrite(first, 0)
	first.RefusePlain = true
	check(first)

	both := mustEncrypt(t, dir, testKey(2), testKey(1))
	check(both)
	rewrite(both, 20)
	second := mustEncrypt(t, dir, testKey(2))
	second.RefusePlain = true
	check(second)
	if _, err := first.Get(t.Context(), "h0.example.com"); !errors.Is(err, cache.ErrKey) || errors.Is(err, cache.ErrMiss) {
		t.Errorf("with the old key alone: %v", err)
	}
	if n, err := first.Rewrite(t.Context()); n != 0 || !errors.Is(err, cache.ErrKey) {
		t.Errorf("rewriting with the old key alone: %d entries, %v", n, err)
	}
}

// Whoever can write to the store cannot plant an entry once plain ones are
// refused.
func TestPlainEntriesCanBeRefused(t *testing.T) {
	store := new(cache.Memory)
	e := mustEncrypt(t, store, testKey(1))
	mustPut(t, store, "example.com", "planted")
	expectValue(t, e, "example.com", "planted")
	e.RefusePlain = true
	if got, err := e.Get(t.Context(), "example.com"); err == nil || errors.Is(err, cache.ErrMiss) {
		t.Errorf("it is read as %q, %v", got, err)
	}
}

func TestKeysOfEncryptedAreChecked(t *testing.T) {
	for name, keys := range map[string][][]byte{
		"none":         nil,
		"too short":    {testKey(1)[:16]},
		"a password":   {testKey(1), []byte("correct horse battery staple")},
		"in base64":    {bytes.Repeat([]byte("a"), 44)},
		"an empty one": {{}},
	} {
		e, err := cache.Encrypted(new(cache.Memory), keys...)
		if e != nil || err == nil {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "correct horse") {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
}

// A wrapper's cache keeps its abilities, and a cache that wraps itself ends the
// search.
func TestAsFindsAbilitiesWithin(t *testing.T) {
	e := mustEncrypt(t, mustEncrypt(t, new(cache.Memory), testKey(1)), testKey(2))
	if _, ok := cache.As[cache.Lister](e); !ok {
		t.Error("the keys of a Memory that is encrypted twice cannot be listed")
	}
	if _, ok := cache.As[interface{ Clean(context.Context) error }](e); ok {
		t.Error("a Memory has an ability of Dir")
	}
	if _, ok := cache.As[cache.Lister](nil); ok {
		t.Error("no cache lists its keys")
	}
	var w ouroboros
	w.Cache = &w
	if _, ok := cache.As[cache.Lister](&w); ok {
		t.Error("a cache without keys lists them")
	}
	none := mustEncrypt(t, struct{ cache.Cache }{new(cache.Memory)}, testKey(1))
	if _, err := none.Rewrite(t.Context()); err == nil {
		t.Error("a store that cannot list its keys was rewritten")
	}
}

// ouroboros wraps itself.
type ouroboros struct{ cache.Cache }

func (o *ouroboros) Unwrap() cache.Cache { return o }
