package rediscache_test

import (
	"context"
	"crypto/tls"
	"log"
	"net/http"
	"os"

	"github.com/redis/go-redis/v9"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/cache/rediscache"
)

func Example() {
	client := redis.NewClient(&redis.Options{
		Addr:                  "redis.example.net:6379",
		Username:              "certmgr",
		Password:              os.Getenv("REDIS_PASSWORD"),
		TLSConfig:             &tls.Config{ServerName: "redis.example.net"},
		ContextTimeoutEnabled: true,
	})
	defer client.Close()
	store, err := rediscache.New(client, rediscache.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Check(context.Background()); err != nil {
		log.Print(err) // the server starts without the store, and serves what it has
	}
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  store,
		Hosts:  certmgr.MustAllowlist("www.example.com"),
	}
	defer m.Close()
	server := &http.Server{Addr: ":443", TLSConfig: m.TLSConfig()}
	log.Print(server.ListenAndServeTLS("", ""))
}

// The primary is found by sentinels, also after a failover.
func ExampleNew_sentinel() {
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName:            "primary",
		SentinelAddrs:         []string{"sentinel-1.example.net:26379", "sentinel-2.example.net:26379", "sentinel-3.example.net:26379"},
		Password:              os.Getenv("REDIS_PASSWORD"),
		ContextTimeoutEnabled: true,
	})
	defer client.Close()
	store, err := rediscache.New(client, rediscache.Options{Prefix: "certmgr/production"})
	if err != nil {
		log.Fatal(err)
	}
	_ = store
}

// Everything of a prefix is in one slot of the cluster.
func ExampleNew_cluster() {
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:                 []string{"redis-1.example.net:6379", "redis-2.example.net:6379", "redis-3.example.net:6379"},
		Password:              os.Getenv("REDIS_PASSWORD"),
		ContextTimeoutEnabled: true,
	})
	defer client.Close()
	store, err := rediscache.New(client, rediscache.Options{})
	if err != nil {
		log.Fatal(err)
	}
	_ = store
}
