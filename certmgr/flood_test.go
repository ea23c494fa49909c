package certmgr_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// floods are the requests of strangers that can differ without end. *.example.net is
// on the list, and HostPolicy allows anything.
var floods = map[string]func(w *world, i int){
	"names below a wildcard":   func(w *world, i int) { w.get(fmt.Sprintf("n%d.example.net", i)) },
	"names of the policy":      func(w *world, i int) { w.get(fmt.Sprintf("www.stranger%d.com", i)) },
	"names of the longest":     func(w *world, i int) { w.get(longName(i)) },
	"names that are not valid": func(w *world, i int) { w.get(fmt.Sprintf("n%d..com", i)) },
	"names that no CA knows":   func(w *world, i int) { w.get(fmt.Sprintf("n%d.internal", i)) },
	"RSA only": func(w *world, i int) {
		w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: fmt.Sprintf("rsa%d.example.net", i), SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256}})
	},
	"challenges of names": func(w *world, i int) {
		w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: fmt.Sprintf("c%d.example.net", i), SupportedProtos: []string{acme.ALPNProto}})
	},
	"tokens":           func(w *world, i int) { w.askPort80("a.example.com", fmt.Sprintf("token%d", i)) },
	"tokens of names":  func(w *world, i int) { w.askPort80(fmt.Sprintf("t%d.example.net", i), "token") },
	"tokens, too long": func(w *world, i int) { w.askPort80("a.example.com", fmt.Sprintf("%0300d", i)) },
	"paths": func(w *world, i int) {
		w.m.HTTPHandler(nil).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://p%d.example.net/%d", i, i), nil))
	},
}

// longName returns a name of 248 to 253 bytes.
func longName(i int) string {
	label := strings.Repeat("a", 60)
	return fmt.Sprintf("n%05d%s.%s.%s.%s.com", i, strings.Repeat("b", 55+i%6), label, label, label)
}

// outages are what may be wrong meanwhile.
var outages = map[string]func(w *world){
	"nothing": func(*world) {},
	"CA refuses": func(w *world) {
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusForbidden, nil, acmetest.Problem{Type: "rejectedIdentifier"})
	},
	"CA hangs":           func(w *world) { w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder}) },
	"cache fails":        func(w *world) { w.failReads(); w.failWrites() },
	"cache hangs":        func(w *world) { w.cache.get(func(ctx context.Context, _ string) error { return hangs(ctx) }) },
	"cache is deaf":      func(w *world) { w.cache.get(func(context.Context, string) error { w.cache.hang(); return nil }) },
	"cache panics":       func(w *world) { w.cache.get(func(context.Context, string) error { panic("boom") }) },
	"cache takes none":   (*world).failWrites,
	"policy cannot tell": func(w *world) { w.policy.says(func(context.Context) error { return certmgr.ErrPolicy }) },
	"policy panics":      func(w *world) { w.policy.says(func(context.Context) error { panic("boom") }) },
	"policy hangs":       func(w *world) { w.policy.says(hangs) },
}

// failWrites makes every write of the cache fail.
func (w *world) failWrites() { w.cache.put(func(context.Context, string) error { return errOutage }) }

// Whatever strangers send, and whatever is out of order meanwhile, makes a handful of
// events besides those of issuances, and hides neither what happens to a host on the
// list nor that host's failure.
func TestFloodsMakeFewEvents(t *testing.T) {
	const (
		waves   = 3 // two minutes apart
		wave    = 40
		handful = 40
	)
	for i, flood := range slices.Sorted(maps.Keys(floods)) {
		send := floods[flood]
		for j, outage := range slices.Sorted(maps.Keys(outages)) {
			begin := outages[outage]
			if !runsRow(i+j, 3) {
				continue
			}
			t.Run(flood+", "+outage, func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T, w *world) {
					w.policy = new(agedPolicy)
					w.m.HostPolicy = w.policy.ask
					w.m.Hosts.Add("*.example.net")
					w.m.HandshakeWait = -1
					w.ca.FailValidation("b.example.com", "", acmetest.Problem{Type: "dns", Detail: "moved"})
					if w.m.Obtain(t.Context(), "b.example.com") == nil {
						t.Fatal("b.example.com was issued")
					}
					begin(w)
					for n := range waves {
						var wg sync.WaitGroup
						for i := range wave {
							wg.Go(func() { send(w, n*wave+i) })
						}
						wg.Wait()
						time.Sleep(2 * coalesceFor)
					}
					w.m.Hosts.Remove("c.example.com")
					w.cache.release()
					if n := len(w.events.of(audit.HostUnlisted)); n != 1 {
						t.Errorf("%d events of the removal from the list", n)
					}
					failed := false
					for _, e := range w.m.Snapshot().RecentFailures {
						failed = failed || e.Host == "b.example.com" && e.Kind == audit.IssuanceFailed
					}
					if !failed {
						t.Error("the failure of the host on the list is not among the recent ones")
					}
					if n := w.events.otherThanIssuances(); n > handful {
						t.Errorf("%d requests made %d events that are no issuance's, want %d at most", waves*wave, n, handful)
					}
				})
			})
		}
	}
}

// otherThanIssuances counts the events that tell of no issuance's steps. These
// are paced by the CA's limits and the Manager's.
func (r *recorder) otherThanIssuances() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Attempt == "" {
			n++
		}
	}
	return n
}
