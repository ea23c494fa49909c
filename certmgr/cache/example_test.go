package cache_test

import (
	"context"
	"crypto/rand"
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

// The key comes from where secrets are kept, and is the same at each start.
func ExampleEncrypted() {
	store := new(cache.Memory) // or a Dir, or a shared store
	key := make([]byte, cache.KeySize)
	rand.Read(key)
	c, err := cache.Encrypted(store, key)
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx := context.Background()
	if err := c.Put(ctx, "example.com", []byte("key and chain")); err != nil {
		fmt.Println(err)
		return
	}
	data, err := c.Get(ctx, "example.com")
	fmt.Printf("%s, %v\n", data, err)
	stored, err := store.Get(ctx, "example.com")
	fmt.Printf("%.32s..., %v\n", stored, err)
	// Output:
	// key and chain, <nil>
	// -----BEGIN NOSTALL ENCRYPTED ENT..., <nil>
}
