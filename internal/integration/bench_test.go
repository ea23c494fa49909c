package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// BenchmarkCertificates compares the fake CA with Pebble, whose sleeps are off
// and which refuses no nonce. An iteration is 100 certificates, one after the
// other for one account, each with an http-01 validation. The benchmark of that
// name in certmgr/acmetest does the same with more certificates.
func BenchmarkCertificates(b *testing.B) {
	b.Run("ca=acmetest-memory", func(b *testing.B) {
		ca := acmetest.NewMemoryServer()
		defer ca.Close()
		site := newBenchSite(b)
		ca.Resolve("*", acmetest.Target{HTTPHandler: site})
		site.bench(b, ca.URL, ca.Client().Transport)
	})
	b.Run("ca=acmetest-listener", func(b *testing.B) {
		ca := acmetest.NewServer()
		defer ca.Close()
		site, l := newBenchSite(b), listen(b)
		serveHTTP(b, l, site)
		ca.Resolve("*", acmetest.Target{HTTPAddr: l.Addr().String()})
		site.bench(b, ca.URL, ca.Client().Transport)
	})
	b.Run("ca=pebble", func(b *testing.B) {
		site, l := newBenchSite(b), listen(b)
		serveHTTP(b, l, site)
		p := startPebble(b, pebbleConfig{httpPort: port(l)})
		site.bench(b, p.directory, p.transport)
	})
}

// benchSite answers the http-01 challenges of one account.
type benchSite struct {
	key        *ecdsa.PrivateKey // of the account
	thumbprint string
	asked      chan struct{} // holds a value if an answer was fetched recently
}

func newBenchSite(tb testing.TB) *benchSite {
	tb.Helper()
	key := newECKey(tb)
	thumbprint, err := acme.JWKThumbprint(key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return &benchSite{key: key, thumbprint: thumbprint, asked: make(chan struct{}, 1)}
}

func (s *benchSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.URL.Path, "/.well-known/acme-challenge/")
	fmt.Fprintf(w, "%s.%s", token, s.thumbprint)
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// bench registers the account and measures the rest.
func (s *benchSite) bench(b *testing.B, directory string, transport http.RoundTripper) {
	b.Helper()
	const certificates = 100
	counter := &impatient{next: transport}
	client := &acme.Client{Key: s.key, DirectoryURL: directory, HTTPClient: &http.Client{Transport: counter}}
	if _, err := client.Register(b.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
		b.Fatal(err)
	}
	hosts, csrs := make([]string, certificates), make([][]byte, certificates)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("host-%d.example.org", i)
		template := &x509.CertificateRequest{DNSNames: hosts[i : i+1]}
		var err error
		if csrs[i], err = x509.CreateCertificateRequest(rand.Reader, template, newECKey(b)); err != nil {
			b.Fatal(err)
		}
	}
	counter.requests.Store(0)
	for b.Loop() {
		for i, host := range hosts {
			if err := s.obtain(b.Context(), client, host, csrs[i]); err != nil {
				b.Fatalf("%s: %v", host, err)
			}
		}
	}
	n := float64(b.N) * certificates
	b.ReportMetric(n/b.Elapsed().Seconds(), "certs/s")
	b.ReportMetric(float64(counter.requests.Load())/n, "requests/cert")
}

// obtain obtains one certificate. It does not poll before the CA has fetched
// the answer.
func (s *benchSite) obtain(ctx context.Context, client *acme.Client, host string, csr []byte) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs(host))
	if err != nil {
		return err
	}
	authorization, err := client.GetAuthorization(ctx, order.AuthzURLs[0])
	if err != nil {
		return err
	}
	for _, challenge := range authorization.Challenges {
		// Pebble reuses some valid authorizations even if configured not to.
		if challenge.Type != "http-01" || authorization.Status == acme.StatusValid {
			continue
		}
		if _, err := client.Accept(ctx, challenge); err != nil {
			return err
		}
		select {
		case <-s.asked:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if _, err := client.WaitAuthorization(ctx, authorization.URI); err != nil {
		return err
	}
	_, _, err = client.CreateCertFromOrder(ctx, order, csr, true)
	return err
}

// impatient counts requests, and makes x/crypto's client poll again at once by
// a Retry-After in the past; otherwise the client waits for at least a second,
// which would dominate the result.
type impatient struct {
	next     http.RoundTripper
	requests atomic.Int64
}

func (t *impatient) RoundTrip(req *http.Request) (*http.Response, error) {
	t.requests.Add(1)
	res, err := t.next.RoundTrip(req)
	if err == nil {
		res.Header.Set("Retry-After", "-1")
	}
	return res, err
}
