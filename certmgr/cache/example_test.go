package cache_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/cache"
)

// cache.Dir takes over autocert's directory as it is.
func ExampleDir() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	certs := filepath.Join(dir, "certs")

	ctx := context.Background()
	old := autocert.DirCache(certs)
	if err := old.Put(ctx, "example.com", []byte("key and chain")); err != nil {
		fmt.Println(err)
		return
	}

	data, err := cache.Dir(certs).Get(ctx, "example.com")
	fmt.Printf("%s, %v\n", data, err)
	// Output: key and chain, <nil>
}

func ExampleMemory() {
	var m cache.Memory
	_, err := m.Get(context.Background(), "example.com")
	fmt.Println(errors.Is(err, cache.ErrMiss), errors.Is(err, autocert.ErrCacheMiss))
	// Output: true true
}
