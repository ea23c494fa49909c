package cache_test

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/cache"
)

func TestMemoriesAreSeparate(t *testing.T) {
	var a, b cache.Memory
	if err := a.Put(t.Context(), "example.com", []byte("value")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "example.com"); err != cache.ErrMiss {
		t.Errorf("Get from another Memory: %v, want ErrMiss", err)
	}
}

func TestZeroMemoryDeletes(t *testing.T) {
	var m cache.Memory
	if err := m.Delete(t.Context(), "example.com"); err != nil {
		t.Error(err)
	}
}

// Identity matters to programs that use both packages.
func TestErrMissIsAutocerts(t *testing.T) {
	if cache.ErrMiss != autocert.ErrCacheMiss {
		t.Error("ErrMiss is not the value of autocert.ErrCacheMiss")
	}
}

func TestErrorsNameOperationAndKey(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]cache.Cache{"Dir": cache.Dir(t.TempDir()), "Memory": new(cache.Memory)} {
		_, getErr := c.Get(ctx, "example.com")
		got := map[string]error{
			`cache: get "example.com": context canceled`:    getErr,
			`cache: put "example.com": context canceled`:    c.Put(ctx, "example.com", nil),
			`cache: delete "example.com": context canceled`: c.Delete(ctx, "example.com"),
		}
		for want, err := range got {
			if !errors.Is(err, context.Canceled) || err.Error() != want {
				t.Errorf("%s: error %v, want %s", name, err, want)
			}
		}
	}
}
