package certmgr_test

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

func TestManagerHeldByValueWithFieldsSetLater(t *testing.T) {
	inCA(t, nil, func(t *testing.T, ca *acmetest.Server) {
		var app struct {
			name  string
			certs certmgr.Manager
		}
		config := app.certs.TLSConfig() // before any field is set
		handler := app.certs.HTTPHandler(nil)
		app.certs.Prompt = certmgr.AcceptTOS
		app.certs.Cache = new(cache.Memory)
		app.certs.HostPolicy = certmgr.HostWhitelist("example.com")
		app.certs.Client = clientOf(ca)
		start(t, ca, &app.certs)
		cert, err := config.GetCertificate(hello("example.com"))
		if err != nil || cert.Leaf.VerifyHostname("example.com") != nil {
			t.Fatalf("GetCertificate: %v", err)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "http://example.com/x", nil))
		if w.Code != http.StatusFound {
			t.Errorf("status %d", w.Code)
		}
	})
}

func TestZeroManagerAllowsNothing(t *testing.T) {
	var m certmgr.Manager
	defer m.Close()
	_, err := m.GetCertificate(hello("example.com"))
	if !errors.Is(err, certmgr.ErrHostNotAllowed) || !strings.Contains(err.Error(), "MustAllowlist") {
		t.Errorf("error %v, want ErrHostNotAllowed that says how to allow", err)
	}
}

// exported returns the exported fields of a struct; functions by their address.
func exported(p any) map[string]any {
	fields := make(map[string]any)
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch {
		case !f.IsExported():
		case f.Type.Kind() == reflect.Func:
			fields[f.Name] = v.Field(i).Pointer()
		default:
			fields[f.Name] = v.Field(i).Interface()
		}
	}
	return fields
}

// countingTransport counts what passes through it.
type countingTransport struct {
	http.RoundTripper
	n atomic.Int64
}

func (c *countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.RoundTripper.RoundTrip(r)
}

func TestUsersClientIsUsedAndNotChanged(t *testing.T) {
	inCA(t, nil, func(t *testing.T, ca *acmetest.Server) {
		transport := &countingTransport{RoundTripper: ca.Client().Transport}
		var retries atomic.Int64
		client := &acme.Client{
			DirectoryURL: ca.URL,
			HTTPClient:   &http.Client{Transport: transport},
			UserAgent:    "shop/1.0",
			RetryBackoff: func(n int, r *http.Request, res *http.Response) time.Duration {
				if res == nil || res.StatusCode == http.StatusServiceUnavailable {
					retries.Add(1)
				}
				return time.Millisecond
			},
		}
		before, httpBefore := exported(client), exported(client.HTTPClient)
		m := &certmgr.Manager{Prompt: certmgr.AcceptTOS, Cache: new(cache.Memory), Client: client, HostPolicy: certmgr.HostWhitelist("example.com")}
		start(t, ca, m)
		ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, http.StatusServiceUnavailable, nil, acmetest.Problem{})
		serve(t, m, hello("example.com"))

		if after := exported(client); !reflect.DeepEqual(before, after) || client.Key != nil {
			t.Errorf("the user's client was changed\nfrom %v\nto   %v", before, after)
		}
		if client.KID != "" {
			t.Errorf("the user's client got the KID %q", client.KID)
		}
		if after := exported(client.HTTPClient); !reflect.DeepEqual(httpBefore, after) {
			t.Errorf("the user's HTTP client was changed\nfrom %v\nto   %v", httpBefore, after)
		}
		if got, want := transport.n.Load(), int64(ca.Count(acmetest.Any)); got != want {
			t.Errorf("%d requests went through the user's transport, the CA got %d", got, want)
		}
		if retries.Load() == 0 {
			t.Error("RetryBackoff was not asked about a 503")
		}
		for _, r := range ca.Requests() {
			if !strings.HasPrefix(r.UserAgent, "shop/1.0") {
				t.Errorf("%s request with the user agent %q", r.Endpoint, r.UserAgent)
			}
		}
	})
}

func TestUsersAccountKeyIsUsed(t *testing.T) {
	inCA(t, nil, func(t *testing.T, ca *acmetest.Server) {
		client, store := clientOf(ca), new(recordingCache)
		key := newECDSAKey()
		client.Key = key
		m := &certmgr.Manager{Prompt: certmgr.AcceptTOS, Cache: store, Client: client, HostPolicy: certmgr.HostWhitelist("example.com")}
		start(t, ca, m)
		serve(t, m, hello("example.com"))
		want, err := acme.JWKThumbprint(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		if accounts := ca.Accounts(); len(accounts) != 1 || accounts[0].Thumbprint != want {
			t.Errorf("accounts %v, want one with the thumbprint %s", accounts, want)
		}
		for _, key := range store.written() {
			if strings.HasPrefix(key, "acme_account") {
				t.Errorf("the cache holds %q although the user keeps the key", key)
			}
		}
	})
}

func TestCallerOwnsTheCertificate(t *testing.T) {
	inCA(t, nil, func(t *testing.T, ca *acmetest.Server) {
		m := &certmgr.Manager{Prompt: certmgr.AcceptTOS, Client: clientOf(ca), HostPolicy: certmgr.HostWhitelist("example.com")}
		start(t, ca, m)
		// The one who began the issuance, one from memory, and one after those
		// have done what programs do.
		first, second := serve(t, m, hello("example.com")), serve(t, m, hello("example.com"))
		chain, key, leaf := slices.Clone(first.Certificate), first.PrivateKey, first.Leaf
		a := append(first.Certificate, []byte("a"))
		b := append(second.Certificate, []byte("b"))
		if string(a[len(a)-1]) != "a" || string(b[len(b)-1]) != "b" {
			t.Error("two callers that append to their chains share memory")
		}
		first.Certificate, first.PrivateKey, first.Leaf = nil, nil, nil
		second.OCSPStaple = []byte("staple")
		third := serve(t, m, hello("example.com"))
		if !reflect.DeepEqual(third.Certificate, chain) || third.PrivateKey != key || third.Leaf != leaf || third.OCSPStaple != nil {
			t.Error("the next caller gets what another one changed")
		}
	})
}

// A refused host reaches neither the cache nor the CA.
func TestPolicysErrorIsUnchanged(t *testing.T) {
	refused := errors.New("tenant has not paid")
	m := &certmgr.Manager{
		HostPolicy: func(context.Context, string) error { return refused },
		Cache:      untouched{t},
		Client:     &acme.Client{HTTPClient: &http.Client{Transport: untouched{t}}},
	}
	defer m.Close()
	if _, err := m.GetCertificate(hello("example.com")); err != refused {
		t.Errorf("GetCertificate: %v", err)
	}
	challenge := hello("example.com")
	challenge.SupportedProtos = []string{acme.ALPNProto}
	if _, err := m.GetCertificate(challenge); err != refused {
		t.Errorf("GetCertificate for a challenge: %v", err)
	}
	if err := m.Obtain(t.Context(), "example.com"); err != refused {
		t.Errorf("Obtain: %v", err)
	}
	if err := serverError(t, m.TLSConfig(), "example.com"); err != refused {
		t.Errorf("tls.Conn.Handshake: %v", err)
	}
	w := httptest.NewRecorder()
	m.HTTPHandler(nil).ServeHTTP(w, httptest.NewRequest("GET", "http://example.com/.well-known/acme-challenge/x", nil))
	if w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), refused.Error()) { // it is not for strangers
		t.Errorf("HTTPHandler: %d %q", w.Code, w.Body)
	}
}

// untouched is a cache, and an HTTP client for the CA, that must not be used.
type untouched struct{ t *testing.T }

func (u untouched) Get(_ context.Context, key string) ([]byte, error) {
	u.t.Errorf("the cache was asked for %q", key)
	return nil, certmgr.ErrCacheMiss
}

func (u untouched) Put(_ context.Context, key string, _ []byte) error {
	u.t.Errorf("%q was put into the cache", key)
	return nil
}

func (u untouched) Delete(_ context.Context, key string) error {
	u.t.Errorf("%q was deleted from the cache", key)
	return nil
}

func (u untouched) RoundTrip(r *http.Request) (*http.Response, error) {
	u.t.Errorf("a request to the CA: %s", r.URL)
	return nil, errors.New("unreachable")
}

// serverError returns what the server's side of a handshake fails with.
func serverError(t *testing.T, config *tls.Config, host string) error {
	t.Helper()
	client, server := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer client.Close()
		tls.Client(client, &tls.Config{ServerName: host, InsecureSkipVerify: true}).HandshakeContext(t.Context())
	})
	err := tls.Server(server, config).HandshakeContext(t.Context())
	server.Close()
	wg.Wait()
	return err
}

func TestGetCertificateOverridden(t *testing.T) {
	inCA(t, nil, func(t *testing.T, ca *acmetest.Server) {
		m := &certmgr.Manager{Prompt: certmgr.AcceptTOS, Client: clientOf(ca), HostPolicy: certmgr.HostWhitelist("example.com")}
		start(t, ca, m)
		config, static := m.TLSConfig(), new(tls.Certificate)
		managed := config.GetCertificate
		config.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if h.ServerName == "static.example.net" {
				return static, nil
			}
			return managed(h)
		}
		config.NextProtos = append(config.NextProtos, "custom")
		ca.Resolve("*", acmetest.Target{TLSConfig: config})
		if cert, err := config.GetCertificate(hello("static.example.net")); cert != static || err != nil {
			t.Errorf("GetCertificate: %v, %v", cert, err)
		}
		if _, err := config.GetCertificate(hello("example.com")); err != nil {
			t.Errorf("GetCertificate: %v", err)
		}
		if protos := m.TLSConfig().NextProtos; !slices.Equal(protos, new(autocert.Manager).TLSConfig().NextProtos) {
			t.Errorf("NextProtos %q", protos)
		}
	})
}

func TestNewListenerKeepsAutocertsDirectory(t *testing.T) {
	for _, domains := range [][]string{{"example.com"}, nil} {
		home := t.TempDir()
		t.Setenv("HOME", home)
		t.Setenv("XDG_CACHE_HOME", filepath.Join(home, "xdg"))
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(base, "golang-autocert")
		// Without the right to listen on port 443 Close says so, as autocert's.
		ln := autocert.NewListener(domains...)
		ln.Close()
		want, err := os.Stat(dir)
		if err != nil {
			t.Skipf("autocert keeps its certificates elsewhere: %v", err)
		}
		os.Remove(dir)
		ln = certmgr.NewListener(domains...)
		if ln.Addr() == nil {
			t.Error("no address")
		}
		ln.Close()
		got, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got.Mode() != want.Mode() {
			t.Errorf("mode %v, want %v", got.Mode(), want.Mode())
		}
	}
}

func TestExtraExtensionsAreRequested(t *testing.T) {
	inCA(t, nil, func(t *testing.T, ca *acmetest.Server) {
		extra := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 0x03, 0x02, 0x01, 0x05}}
		m := &certmgr.Manager{Prompt: certmgr.AcceptTOS, Client: clientOf(ca), HostPolicy: certmgr.HostWhitelist("example.com"),
			ExtraExtensions: []pkix.Extension{extra}}
		start(t, ca, m)
		serve(t, m, hello("example.com"))
		csr := ca.CSRsFor("example.com")[0]
		if !slices.ContainsFunc(csr.Extensions, func(e pkix.Extension) bool { return reflect.DeepEqual(e, extra) }) {
			t.Errorf("the CSR has the extensions %v", csr.Extensions)
		}
		if csr.Subject.CommonName != "example.com" || !slices.Equal(csr.DNSNames, []string{"example.com"}) {
			t.Errorf("the CSR is for %q, %q", csr.Subject, csr.DNSNames)
		}
	})
}

func TestHostWhitelistDecidesAsAutocerts(t *testing.T) {
	listed := []string{"example.com", "EXAMPLE.org", "bücher.example", "*.wild.example", "ß.example", "dot.example.net.",
		"bad_name.example", "-bad.example", "localhost", "192.0.2.1", "", "a..b", "xn--bcher-kva.example.net", "σας.example"}
	asked := append([]string{"example.org", "Example.com", "sub.example.com", "com", "a.wild.example", "xn--bcher-kva.example",
		"ss.example", "xn--zca.example", "xn--4xa.example", "dot.example.net", "example.com.", "unknown.example", "2001:db8::1",
		"xn--mxaoc.example", "xn--mxa3aa.example"}, listed...)
	ours, theirs := certmgr.HostWhitelist(listed...), autocert.HostWhitelist(listed...)
	for _, host := range asked {
		// A Manager asks without the trailing dot, so it has to be that form
		// that an entry with one allows; autocert's would never match.
		want := theirs(t.Context(), host) == nil || host == "dot.example.net"
		if got := ours(t.Context(), host) == nil; got != want {
			t.Errorf("HostWhitelist allows %q: %v, autocert's %v", host, got, want)
		}
	}
	if err := certmgr.HostWhitelist()(t.Context(), "example.com"); !errors.Is(err, certmgr.ErrHostNotAllowed) {
		t.Errorf("error %v, want ErrHostNotAllowed", err)
	}
}
