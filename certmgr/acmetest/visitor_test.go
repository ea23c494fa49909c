package acmetest_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// hello is the site under test.
func hello() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "Hello from %s.", r.Host) })
}

// managerFor returns a Manager that uses ca.
func managerFor(ca *acmetest.Server, hosts ...string) *certmgr.Manager {
	return &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist(hosts...),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
}

// body visits a URL and returns what the site says.
func body(ca *acmetest.Server, url string) (string, error) {
	res, err := ca.Visitor().Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// A visitor reaches a site in memory or at an address, by every name that
// Resolve knows, inside a bubble and outside.
func TestVisitor(t *testing.T) {
	site := func(t *testing.T, ca *acmetest.Server, addr bool) {
		m := managerFor(ca, "www.example.com", "xn--bcher-kva.example")
		defer m.Close()
		target := acmetest.Target{TLSConfig: m.TLSConfig(), HTTPSHandler: hello(), HTTPHandler: m.HTTPHandler(nil)}
		if addr {
			https := httptest.NewUnstartedServer(hello())
			https.TLS = m.TLSConfig()
			https.StartTLS()
			defer https.Close()
			http := httptest.NewServer(m.HTTPHandler(nil))
			defer http.Close()
			target = acmetest.Target{TLSAddr: https.Listener.Addr().String(), HTTPAddr: http.Listener.Addr().String()}
		}
		ca.Resolve("*", target)
		for url, want := range map[string]string{
			"https://www.example.com/":    "Hello from www.example.com.",
			"https://bücher.example:443/": "Hello from xn--bcher-kva.example:443.",
			"http://www.example.com/":     "Hello from www.example.com.", // redirected
		} {
			if got, err := body(ca, url); err != nil || got != want {
				t.Errorf("%s: %q, error %v, want %q\n%v", url, got, err, want, ca)
			}
		}
	}
	t.Run("in a bubble", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ca := acmetest.NewMemoryServer()
			defer ca.Close()
			site(t, ca, false)
		})
	})
	t.Run("outside", func(t *testing.T) {
		ca := acmetest.NewServer()
		defer ca.Close()
		site(t, ca, false)
	})
	t.Run("over sockets", func(t *testing.T) {
		ca := acmetest.NewServer()
		defer ca.Close()
		site(t, ca, true)
	})
}

// A visit fails when it should, and the error says why.
func TestVisitorFailsWhenItShould(t *testing.T) {
	for _, test := range []struct {
		name, url string
		spoil     func(ca *acmetest.Server)
		as        func(error) bool
		want      string
	}{
		{"a host that is not on the list", "https://other.example.com/", nil, nil,
			"other.example.com"},
		{"a CA that refuses", "https://www.example.com/", func(ca *acmetest.Server) {
			ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 403, nil, acmetest.Problem{Type: "rejectedIdentifier", Detail: "no such luck"})
		}, nil, "no such luck"},
		{"a name that leads nowhere", "https://www.example.org/", nil, nil, `no such host "www.example.org": call Resolve`},
		{"a closed port", "https://www.example.com/", func(ca *acmetest.Server) {
			ca.Resolve("www.example.com", acmetest.Target{})
		}, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }, "no server for this scheme"},
		{"another port", "https://www.example.com:8443/", nil, nil, "port 443 for https"},
		{"http without a server", "http://www.example.com/", nil,
			func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }, "no server for this scheme"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := acmetest.NewMemoryServer()
				defer ca.Close()
				m := managerFor(ca, "www.example.com")
				defer m.Close()
				ca.Resolve("*.example.com", acmetest.Target{TLSConfig: m.TLSConfig()})
				if test.spoil != nil {
					test.spoil(ca)
				}
				_, err := body(ca, test.url)
				if err == nil || test.as != nil && !test.as(err) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want one with %q", err, test.want)
				}
			})
		})
	}
}

// A visitor trusts this CA alone, and only while the certificate is valid and
// for the name.
func TestVisitorVerifies(t *testing.T) {
	for name, as := range map[string]func(error) bool{
		"foreign": isAs[x509.UnknownAuthorityError],
		"name":    isAs[x509.HostnameError],
		"expired": isAs[x509.CertificateInvalidError],
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca, other := acmetest.NewMemoryServer(), acmetest.NewMemoryServer()
				defer ca.Close()
				defer other.Close()
				issuer := ca
				if name == "foreign" {
					issuer = other
				}
				c := newRawClient(t, issuer)
				key := newECKey(t)
				c.issueWith(key, "www.example.com")
				cert := tls.Certificate{PrivateKey: key}
				chain := c.get(c.get(c.endpoint("/order/1")).str("certificate")).body
				for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
					cert.Certificate = append(cert.Certificate, block.Bytes)
				}
				host := "www.example.com"
				switch name {
				case "name":
					host = "other.example.com"
				case "expired":
					time.Sleep(91 * 24 * time.Hour)
				}
				ca.Resolve(host, acmetest.Target{TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}})
				if _, err := body(ca, "https://"+host+"/"); !as(err) || strings.Contains(err.Error(), "under test says") {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

// The client can be adapted, trusts alternate roots, and ends with the CA.
func TestVisitorIsAnOrdinaryClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := acmetest.NewUnstartedServer()
		ca.AlternateChains = 1
		ca.StartMemory()
		m := managerFor(ca, "www.example.com")
		defer m.Close()
		ca.Resolve("www.example.com", acmetest.Target{TLSConfig: m.TLSConfig(), HTTPSHandler: hello()})
		client := ca.Visitor()
		client.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS12
		res, err := client.Get("https://www.example.com/") // the body is neither read nor closed
		if err != nil || res.TLS.Version != tls.VersionTLS12 {
			t.Fatalf("%v, error %v", res, err)
		}
		if got := res.TLS.VerifiedChains; len(got) != 1 || client == ca.Visitor() {
			t.Errorf("%d chains", len(got))
		}
		start := time.Now()
		ca.Close()
		if d := time.Since(start); d != 0 {
			t.Errorf("Close took %v", d)
		}
		if _, err := client.Get("https://www.example.com/"); err == nil || !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("after Close: error %v", err)
		}
		_ = res.Body.Close()
	})
}
