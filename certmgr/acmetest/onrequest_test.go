package acmetest_test

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// TestOnRequest: each request is reported once, complete, whether it got a reply
// or not.
func TestOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []acmetest.Request
		s := acmetest.NewUnstartedServer()
		s.OnRequest = func(r acmetest.Request) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, r)
		}
		s.StartMemory()
		defer s.Close()
		mustGet(t, s.Client(), s.URL)
		s.Drop(acmetest.Match{Endpoint: acmetest.NewNonce})
		c := newRawClient(t, s)
		if _, err := c.try(post{method: "HEAD", url: c.endpoint("/new-nonce")}); err == nil {
			t.Error("a dropped request got a reply")
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(got) != 2 || got[0].Endpoint != acmetest.Directory || got[0].Status != 200 ||
			got[1].Endpoint != acmetest.NewNonce || got[1].Status != 0 || got[1].Fault == "" {
			t.Errorf("reported: %+v", got)
		}
	})
}
