package certmgr_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// No reply of a CA makes a loop, holds an attempt for longer than its bound,
// or harms another host.
func TestHostileRepliesAreBounded(t *testing.T) {
	t.Parallel()
	// A host that the CA fails, and does not refuse, is tried after 5, 15, 45 and
	// 60 s, then each minute, and after 15 min every 5 min.
	const mostAttempts = 31
	host := acmetest.Match{Host: "a.example.com"}
	at := func(e acmetest.Endpoint) acmetest.Match { return acmetest.Match{Endpoint: e, Host: "a.example.com"} }
	tests := []struct {
		name  string
		fault func(ca *acmetest.Server)
		most  int // requests for the host in an hour, with a visitor a second
		stage audit.Stage
	}{
		{"order invalid at once", func(ca *acmetest.Server) { ca.InvalidOrder("a.example.com") }, mostAttempts, audit.StageOrder},
		{"stuck processing", func(ca *acmetest.Server) { ca.StuckProcessing("a.example.com") }, 200, audit.StageFinalize},
		{"stuck processing, Retry-After in the past", func(ca *acmetest.Server) {
			ca.StuckProcessing("a.example.com")
			ca.RetryAfter(acmetest.Order, "Mon, 02 Jan 2006 15:04:05 GMT")
		}, 200, audit.StageFinalize},
		{"stuck processing, Retry-After negative", func(ca *acmetest.Server) {
			ca.StuckProcessing("a.example.com")
			ca.RetryAfter(acmetest.Order, "-1")
		}, 200, audit.StageFinalize},
		{"stuck processing, Retry-After absurd", func(ca *acmetest.Server) {
			ca.StuckProcessing("a.example.com")
			ca.RetryAfter(acmetest.Order, "86400000")
		}, 200, audit.StageFinalize},
		{"newOrder stalls", func(ca *acmetest.Server) { ca.Stall(at(acmetest.NewOrder)) }, 2 * mostAttempts, audit.StageOrder},
		{"everything stalls", func(ca *acmetest.Server) { ca.Stall(host) }, 2 * mostAttempts, audit.StageOrder},
		{"connections drop", func(ca *acmetest.Server) { ca.Drop(host) }, 2 * mostAttempts, audit.StageOrder},
		{"garbage", func(ca *acmetest.Server) { ca.Garbage(at(acmetest.Authorization)) }, 4 * mostAttempts, audit.StageAuthorization},
		{"endless bodies", func(ca *acmetest.Server) { ca.EndlessBody(host) }, mostAttempts, audit.StageOrder},
		{"500", func(ca *acmetest.Server) {
			ca.Status(host, http.StatusInternalServerError, nil, acmetest.Problem{Type: "serverInternal"})
		}, 4 * mostAttempts, audit.StageOrder},
		{"429 with an absurd Retry-After", func(ca *acmetest.Server) {
			ca.Status(host, http.StatusTooManyRequests, http.Header{"Retry-After": {"999999999"}}, acmetest.Problem{Type: "rateLimited", Detail: "a.example.com"})
		}, 1, audit.StageOrder},
		{"429 with a Retry-After in the past", func(ca *acmetest.Server) {
			ca.Status(host, http.StatusTooManyRequests, http.Header{"Retry-After": {"-5"}}, acmetest.Problem{Type: "rateLimited", Detail: "a.example.com"})
		}, 8, audit.StageOrder},
		{"foreign name", func(ca *acmetest.Server) {
			ca.EditCertificate("a.example.com", func(c *x509.Certificate) { c.DNSNames = []string{"evil.example.com"}; c.Subject.CommonName = "" })
		}, 30, audit.StageFinalize},
		{"foreign key", func(ca *acmetest.Server) { ca.WrongKey("a.example.com") }, 30, audit.StageFinalize},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.HandshakeWait = 4 * time.Minute
				w.mustGet("b.example.com")
				tt.fault(w.ca)
				begin := time.Now()
				_, err := w.get("a.example.com")
				if d := time.Since(begin); d > attemptTimeout+time.Second {
					t.Errorf("the attempt took %v", d)
				}
				issue, ok := errors.AsType[*certmgr.IssuanceError](err)
				if !ok || issue.Stage != tt.stage {
					t.Errorf("got %v, want an *IssuanceError at stage %q", err, tt.stage)
				}
				w.m.HandshakeWait = -1
				for time.Since(begin) < time.Hour {
					w.get("a.example.com")
					time.Sleep(time.Second)
				}
				if n := w.ca.CountHost(acmetest.Any, "a.example.com"); n > tt.most {
					t.Errorf("%d requests for the host in an hour, want %d at most", n, tt.most)
				}
				w.m.HandshakeWait = 10 * time.Second
				w.mustGet("b.example.com")
				w.mustGet("c.example.com")
			})
		})
	}
}

// A certificate costs 7 requests at most once there is an account, and comes
// about as fast as the CA.
func TestRequestsForACertificate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		n := w.ca.Count(acmetest.Any)
		start := time.Now()
		w.mustGet("b.example.com")
		if got := w.ca.Count(acmetest.Any) - n; got > 7 {
			t.Errorf("%d requests for a certificate, want 7 at most", got)
		}
		if d := time.Since(start); d > 200*time.Millisecond {
			t.Errorf("a CA that validates at once had the visitor wait %v", d)
		}
	})
}

// A certificate that never ends is issued once and served.
func TestCertificateWithoutEndIsIssuedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.EditCertificate("a.example.com", func(c *x509.Certificate) { c.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) })
		if _, err := w.get("a.example.com"); err != nil {
			t.Error(err)
		}
		w.wantOrders("a.example.com", 1)
	})
}

type manyAuthz struct{ rt http.RoundTripper }

func (m manyAuthz) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := m.rt.RoundTrip(r)
	if err != nil || res.StatusCode != 201 || !strings.Contains(r.URL.Path, "rder") {
		return res, err
	}
	b, _ := io.ReadAll(res.Body)
	var o map[string]any
	json.Unmarshal(b, &o)
	if a, ok := o["authorizations"].([]any); ok {
		var all []any
		for range 5 {
			all = append(all, a[0])
		}
		o["authorizations"] = all
	}
	b, _ = json.Marshal(o)
	res.Body = io.NopCloser(bytes.NewReader(b))
	res.ContentLength = int64(len(b))
	res.Header.Del("Content-Length")
	return res, nil
}

// An order with five authorizations for one name is refused at once.
func TestOrderWithManyAuthorizationsIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := *w.ca.Client()
		c.Transport = manyAuthz{c.Transport}
		w.m.Client = &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: &c}
		_, err := w.get("a.example.com")
		if issue, ok := errors.AsType[*certmgr.IssuanceError](err); !ok || issue.Stage != audit.StageOrder {
			t.Errorf("got %v, want an *IssuanceError at stage %q", err, audit.StageOrder)
		}
		if n := w.ca.Count(acmetest.Authorization); n != 0 {
			t.Errorf("%d requests for authorizations", n)
		}
	})
}
