package certmgr_test

import (
	"crypto/tls"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

// Many hosts without a certificate get their first visitors at once: the CA's steps
// run side by side, and it is not asked more than it must be.
func TestManyColdHostsAtOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		hosts    int
		step     time.Duration // of the CA: a validation, and issuing
		took     time.Duration // at most
		requests float64       // for each certificate, at most
	}{
		"instant CA": {50, 0, 10 * time.Millisecond, 7},
		"150 ms":     {50, 150 * time.Millisecond, 410 * time.Millisecond, 12},
		"2 s":        {5, 2 * time.Second, 6 * time.Second, 30},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := acmetest.NewUnstartedServer()
				ca.ValidateInReply, ca.Processing = acmetest.Never, tt.step
				if tt.step == 0 {
					ca.ValidateInReply = acmetest.Always
				}
				ca.StartMemory()
				defer ca.Close()
				names := make([]string, tt.hosts)
				for i := range names {
					names[i] = fmt.Sprintf("www.example%d.com", i)
				}
				m := &certmgr.Manager{
					Prompt: certmgr.AcceptTOS,
					Cache:  new(cache.Memory),
					Hosts:  certmgr.MustAllowlist(names...),
					Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
				}
				defer m.Close()
				config := m.TLSConfig()
				config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
					time.Sleep(tt.step)
					return nil, nil
				}
				ca.Resolve("*", acmetest.Target{TLSConfig: config})

				begun := time.Now()
				var wg sync.WaitGroup
				for _, host := range names {
					wg.Go(func() {
						if _, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: host}); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if took := time.Since(begun); took > tt.took {
					t.Errorf("took %v, want %v at most", took, tt.took)
				}
				if n := float64(ca.Count(acmetest.Any)) / float64(tt.hosts); n > tt.requests {
					t.Errorf("%.1f requests for a certificate, want %v at most", n, tt.requests)
				}
			})
		})
	}
}
