package acmetest_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// Pauses act whether they were added before or after the fault that ends the
// request.
func TestPausesAddUpInAnyOrder(t *testing.T) {
	for _, statusFirst := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ca := acmetest.NewMemoryServer()
			defer ca.Close()
			m := acmetest.Match{Endpoint: acmetest.Directory}
			status := func() { ca.Status(m, http.StatusServiceUnavailable, nil, acmetest.Problem{Type: "serverInternal"}) }
			if statusFirst {
				status()
			}
			ca.Delay(m, 2*time.Second)
			ca.Delay(m, 3*time.Second)
			if !statusFirst {
				status()
			}
			start := time.Now()
			resp, err := ca.Client().Get(ca.URL)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if d := time.Since(start); d != 5*time.Second || resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("status first %v: status %d after %v, want 503 after 5s", statusFirst, resp.StatusCode, d)
			}
		})
	}
}
