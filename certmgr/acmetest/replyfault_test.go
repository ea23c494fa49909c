package acmetest_test

import (
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// Each fault changes the reply to newOrder in its way, once, and the log names
// it.
func TestFaultsOfReplies(t *testing.T) {
	gateway := func(code int) func(s *acmetest.Server, m acmetest.Match) *acmetest.Fault {
		return func(s *acmetest.Server, m acmetest.Match) *acmetest.Fault { return s.GatewayPage(m, code) }
	}
	isPage := func(code int) func(a answer) bool {
		return func(a answer) bool {
			return a.status == code && a.header.Get("Content-Type") == "text/html" && a.header.Get("Replay-Nonce") == "" &&
				strings.Contains(string(a.body), "<h1>")
		}
	}
	tests := []struct {
		name   string
		fault  func(s *acmetest.Server, m acmetest.Match) *acmetest.Fault
		logged string
		orders int // made by the request
		want   func(a answer) bool
	}{
		{"drop reply", (*acmetest.Server).DropReply, "DropReply", 1, func(a answer) bool { return a.status == 0 }},
		{"drop", (*acmetest.Server).Drop, "Drop", 0, func(a answer) bool { return a.status == 0 }},
		{"502", gateway(502), "GatewayPage", 0, isPage(502)},
		{"200 from a captive portal", gateway(200), "GatewayPage", 0, isPage(200)},
		{"504 after the CA has acted", gateway(504), "GatewayPage", 1, isPage(504)},
		{"200 instead of 201", func(s *acmetest.Server, m acmetest.Match) *acmetest.Fault { return s.SuccessStatus(m, 200) }, "SuccessStatus", 1,
			func(a answer) bool {
				return a.status == 200 && a.str("status") == "pending" && a.header.Get("Location") != ""
			}},
		{"relative URLs", (*acmetest.Server).RelativeURLs, "RelativeURLs", 1, func(a answer) bool {
			return a.status == 201 && a.header.Get("Location") == "/order/1" && a.str("finalize") == "/finalize/1" &&
				a.authorizations()[0] == "/authorization/1" && a.header.Get("Link") == `</directory>;rel="index"`
		}},
		{"no Location", (*acmetest.Server).NoLocation, "NoLocation", 1, func(a answer) bool {
			return a.status == 201 && a.header.Get("Location") == "" && a.str("finalize") != ""
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := acmetest.NewMemoryServer()
				defer s.Close()
				c := newRawClient(t, s)
				c.register()
				f := tt.fault(s, acmetest.Match{Endpoint: acmetest.NewOrder, Host: "A.example.com", Count: 1})
				payload := `{"identifiers":[{"type":"dns","value":"a.example.com"}]}`
				a, err := c.try(post{url: c.endpoint("/new-order"), payload: payload})
				if !tt.want(a) || (err != nil) != (a.status == 0) {
					t.Errorf("the client got %d %v %s, error %v", a.status, a.header, a.body, err)
				}
				if r := lastRequest(s); r.Fault != tt.logged || f.Acted() != 1 {
					t.Errorf("log entry %+v, acted %d times", r, f.Acted())
				}
				if n := len(s.Orders()); n != tt.orders {
					t.Errorf("%d orders, want %d", n, tt.orders)
				}
				if a := c.newOrder(nil, "a.example.com"); a.status != http.StatusCreated || a.header.Get("Location") == "" {
					t.Errorf("afterwards: %d %v %s", a.status, a.header, a.body)
				}
			})
		})
	}
}

// Refusals keep their status and their absolute URLs.
func TestFaultsOfSuccessesLeaveRefusals(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	s.SuccessStatus(acmetest.Match{}, 202)
	s.RelativeURLs(acmetest.Match{Endpoint: acmetest.Unknown})
	resp, body := send(t, s, http.MethodGet, strings.TrimSuffix(s.URL, "directory")+"nothing")
	if resp.StatusCode != 404 || !strings.Contains(resp.Header.Get("Link"), "https://") || lastRequest(s).Fault != "" {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
	if resp, _ := send(t, s, http.MethodGet, s.URL); resp.StatusCode != 202 {
		t.Errorf("the directory: %d", resp.StatusCode)
	}
}

// CreateOrderCert of x/crypto needs a Location in the reply to finalize of an
// order in process, which RFC 8555 does not require.
func TestFinalizeLocation(t *testing.T) {
	for _, location := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := acmetest.NewUnstartedServer()
			s.Processing, s.FinalizeLocation = time.Second, location
			s.StartMemory()
			defer s.Close()
			c := newRawClient(t, s)
			c.register()
			_, o := c.ready("a.example.com")
			client := &acme.Client{Key: c.key, DirectoryURL: s.URL, HTTPClient: s.Client()}
			request := func(host string) []byte {
				der, err := base64.RawURLEncoding.DecodeString(csr(t, newECKey(t), x509.CertificateRequest{}, host))
				if err != nil {
					t.Fatal(err)
				}
				return der
			}
			if _, _, err := client.CreateOrderCert(t.Context(), o.str("finalize"), request("a.example.com"), true); (err == nil) != location {
				t.Errorf("Location %v: %v", location, err)
			}
			u, o := c.ready("b.example.com")
			order := &acme.Order{URI: u, FinalizeURL: o.str("finalize")}
			if _, _, err := client.CreateCertFromOrder(t.Context(), order, request("b.example.com"), true); err != nil {
				t.Errorf("CreateCertFromOrder: %v", err)
			}
		})
	}
}
