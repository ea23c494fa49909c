package rediscache_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nostall/nostall/internal/servertest"
)

// The keys of other programs, and of caches with another prefix, are not listed,
// however many pages a list has.
func TestKeysAmongOthers(t *testing.T) {
	for _, d := range deployments {
		t.Run(d.name, func(t *testing.T) {
			client := d.start(t).connect(t)
			c, longer := newCache(t, client), unused()
			longer.Prefix = "certmgr-2"
			others := newCacheWith(t, client, longer)
			var want []string
			for i := range 300 {
				key := fmt.Sprintf("host-%d.example.com", i)
				want = append(want, key)
				if err := c.Put(t.Context(), key, nil); err != nil {
					t.Fatal(err)
				}
				if err := others.Put(t.Context(), "other-"+key, nil); err != nil {
					t.Fatal(err)
				}
			}
			foreign := client.Pipeline()
			for i := range 3000 {
				foreign.Set(t.Context(), fmt.Sprint("certmgr:entry:", i), "", 0)
			}
			if _, err := foreign.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			var got []string
			for key, err := range c.Keys(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, key)
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("listed are %d keys, want %d", len(got), len(want))
			}
		})
	}
}

// A list on which two processes have worked may lack keys, so it ends with an
// error.
func TestKeysDuringARestart(t *testing.T) {
	server := servertest.StartRedis(t)
	c := newCache(t, connect(t, server))
	for i := range 2000 {
		if err := c.Put(t.Context(), fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	restarted := false
	var last error
	for _, err := range c.Keys(t.Context()) {
		if !restarted {
			restarted = true
			server.Stop()
			server.Restart()
		}
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "list the keys again") {
		t.Errorf("the list ends with %v, want an error that says that the server was restarted", last)
	}
}
