package rediscache_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/cachetest"
)

// Each machine has a client of its own.
func TestLocksConform(t *testing.T) {
	for _, d := range deployments {
		t.Run(d.name, func(t *testing.T) {
			r := d.start(t)
			cachetest.RunLocker(t, func(t *testing.T) *cachetest.Store { return newStore(r) })
		})
	}
}

// newStore returns an empty store on servers that other stores use too.
func newStore(r running) *cachetest.Store {
	o := unused()
	clients := make(map[cache.Cache]redis.UniversalClient)
	return &cachetest.Store{
		Open: func(t *testing.T) cache.Cache {
			client := r.connect(t)
			c := newCacheWith(t, client, o)
			clients[c] = client
			return c
		},
		Drop: func(t *testing.T, c cache.Cache) {
			if err := clients[c].Close(); err != nil {
				t.Error(err)
			}
		},
		Hang: func(*testing.T) func() {
			for _, server := range r.servers {
				server.Process().Pause()
			}
			return func() {
				for _, server := range r.servers {
					server.Process().Continue()
				}
			}
		},
	}
}
