package cases

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
)

// H01 (hostile review): a server name may have 65,000 bytes, and IDNA's cost
// grows with the square of some labels. A name that is too long for any host is
// refused before it is processed, at every entry point.
func TestLongServerNamesCostNothing(t *testing.T) {
	m := &certmgr.Manager{Hosts: certmgr.MustAllowlist(host), Audit: new(recorder).hook}
	defer m.Close()
	ways := map[string]func(name string){
		"hello": func(name string) { m.GetCertificate(hello(name)) },
		"TLS":   func(name string) { handshakeFor(m.TLSConfig(), name) },
		"Host header": func(name string) {
			req := httptest.NewRequest(http.MethodGet, "http://"+host+"/.well-known/acme-challenge/token", nil)
			req.Host = name
			m.HTTPHandler(nil).ServeHTTP(httptest.NewRecorder(), req)
		},
	}
	names := map[string]func(bytes int) string{"CJK": runesFrom(0x4e00, 0x9fa5), "Hangul": runesFrom(0xac00, 0xd7a3)}
	for way, send := range ways {
		for script, name := range names {
			table.Run(t, "H01/"+way+"/"+script, func(t *T) {
				short, long := name(240), name(12_000)
				allowed := 50 * leastCost(20, 0, func() { send(short) })
				if cost := leastCost(10, allowed, func() { send(long) }); cost > allowed {
					t.Errorf("a name of %d bytes costs %v, and 50 times one of %d bytes %v", len(long), cost, len(short), allowed)
				}
			})
		}
	}
}

// runesFrom returns labels of distinct runes.
func runesFrom(first, last rune) func(bytes int) string {
	return func(bytes int) string {
		var b strings.Builder
		for r := first; b.Len() < bytes; r++ {
			if r > last {
				r = first
			}
			b.WriteRune(r)
		}
		return b.String() + ".com"
	}
}

// leastCost returns the shortest duration of f in several tries. It stops early
// once a try took no longer than enough.
func leastCost(tries int, enough time.Duration, f func()) time.Duration {
	least := time.Hour
	for range tries {
		begin := time.Now()
		f()
		if least = min(least, time.Since(begin)); least <= enough {
			break
		}
	}
	return least
}

// handshakeFor makes a TLS handshake over a connection in memory, which fails.
func handshakeFor(config *tls.Config, name string) {
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
		client.Close()
	}()
	tls.Server(server, config).Handshake()
	server.Close()
	<-done
}
