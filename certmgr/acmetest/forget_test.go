package acmetest_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// TestForgetRequestsAtOnce: concurrent calls return each request once.
func TestForgetRequestsAtOnce(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	const goroutines, each = 8, 200
	var forgotten atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				resp, err := s.Client().Get(s.URL)
				if err != nil {
					t.Error(err)
					return
				}
				_ = resp.Body.Close()
				forgotten.Add(int64(len(s.ForgetRequests())))
			}
		})
	}
	wg.Wait()
	if n := forgotten.Load(); n != goroutines*each || len(s.Requests()) != 0 {
		t.Errorf("%d requests were forgotten and %d are left, of %d", n, len(s.Requests()), goroutines*each)
	}
}
