package acmetest_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// TestCloseWaitsForNetworkValidations: after Close nothing of a validation over
// a real socket is left, not even for a moment.
func TestCloseWaitsForNetworkValidations(t *testing.T) {
	for _, answer := range []string{"", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 87\r\n\r\na"} {
		for range 20 {
			s := acmetest.NewMemoryServer() // whose own client has no connections
			b := &busy{rawClient: newRawClient(t, s)}
			b.register()
			if left := goroutinesLeft(t); left != "" {
				t.Fatalf("before the test:\n%s", left)
			}
			b.validateWith("http-01", answer, httpAt)
			s.Close()
			buf := make([]byte, 1<<20)
			stacks := string(buf[:runtime.Stack(buf, true)])
			for _, c := range b.open {
				c.Close()
			}
			if strings.Contains(stacks, "net/http.(*persistConn)") || strings.Contains(stacks, "validateHTTP01") {
				t.Fatalf("after the answer %q:\n%s", answer, stacks)
			}
		}
	}
}
