package rediscache_test

import (
	"testing"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/cachetest"
	"github.com/nostall/nostall/internal/servertest"
)

func TestConforms(t *testing.T) {
	for _, d := range deployments {
		t.Run(d.name, func(t *testing.T) {
			client := d.start(t).connect(t)
			cachetest.Run(t, func(t *testing.T) cache.Cache { return newCacheWith(t, client, unused()) })
		})
	}
}

// The cache has its abilities also behind a wrapper that encrypts what it puts.
func TestEncryptedConforms(t *testing.T) {
	server := servertest.StartRedis(t)
	encrypted := func(t *testing.T, c cache.Cache) cache.Cache {
		e, err := cache.Encrypted(c, make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	client := connect(t, server)
	cachetest.Run(t, func(t *testing.T) cache.Cache { return encrypted(t, newCacheWith(t, client, unused())) })
}
