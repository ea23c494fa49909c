package acmetest_test

import (
	"context"
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

// BenchmarkCertificates issues 1,000 certificates over the in-memory transport,
// one after the other for one account: newOrder, an http-01 validation,
// finalize, download. That is one iteration. It includes the client's work
// except for keys and CSRs. See the benchmark in internal/integration for a
// comparison with Pebble.
func BenchmarkCertificates(b *testing.B) {
	const certificates = 1000
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	transport := &impatient{next: ca.Client().Transport}
	client := &acme.Client{
		Key:          newECKey(b),
		DirectoryURL: ca.URL,
		HTTPClient:   &http.Client{Transport: transport},
	}
	if _, err := client.Register(b.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
		b.Fatal(err)
	}
	site := newBenchSite(b, client)
	ca.Resolve("*", acmetest.Target{HTTPHandler: site})
	hosts, csrs := make([]string, certificates), make([][]byte, certificates)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("host-%d.example.com", i)
		template := &x509.CertificateRequest{DNSNames: hosts[i : i+1]}
		var err error
		if csrs[i], err = x509.CreateCertificateRequest(rand.Reader, template, newECKey(b)); err != nil {
			b.Fatal(err)
		}
	}
	transport.requests.Store(0)
	for b.Loop() {
		for i, host := range hosts {
			if err := site.obtain(b.Context(), host, csrs[i]); err != nil {
				b.Fatalf("%s: %v", host, err)
			}
		}
	}
	n := float64(b.N) * certificates
	b.ReportMetric(n/b.Elapsed().Seconds(), "certs/s")
	b.ReportMetric(float64(transport.requests.Load())/n, "requests/cert")
}

// benchSite answers the http-01 challenges of one account.
type benchSite struct {
	client     *acme.Client
	thumbprint string
	asked      chan struct{} // holds a value if an answer was fetched lately
}

func newBenchSite(tb testing.TB, client *acme.Client) *benchSite {
	tb.Helper()
	thumbprint, err := acme.JWKThumbprint(client.Key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return &benchSite{client: client, thumbprint: thumbprint, asked: make(chan struct{}, 1)}
}

func (s *benchSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.URL.Path, "/.well-known/acme-challenge/")
	_, _ = fmt.Fprintf(w, "%s.%s", token, s.thumbprint)
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// obtain gets one certificate. It does not poll before the CA has fetched the
// key authorization.
func (s *benchSite) obtain(ctx context.Context, host string, csr []byte) error {
	order, err := s.client.AuthorizeOrder(ctx, acme.DomainIDs(host))
	if err != nil {
		return err
	}
	authorization, err := s.client.GetAuthorization(ctx, order.AuthzURLs[0])
	if err != nil {
		return err
	}
	for _, challenge := range authorization.Challenges {
		if challenge.Type != "http-01" {
			continue
		}
		if _, err := s.client.Accept(ctx, challenge); err != nil {
			return err
		}
		select {
		case <-s.asked:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if _, err := s.client.WaitAuthorization(ctx, authorization.URI); err != nil {
		return err
	}
	_, _, err = s.client.CreateCertFromOrder(ctx, order, csr, true)
	return err
}

// impatient counts requests and makes x/crypto's client poll at once, by a
// Retry-After in the past. Otherwise the client would wait at least a second,
// which would dwarf the rest.
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
