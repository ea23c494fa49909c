package acmetest_test

import (
	"crypto/x509"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/conformance"
)

const day = 24 * time.Hour

// renewalInfo fetches a certificate's renewal information, as a client that
// knows only the directory.
func (c *rawClient) renewalInfo(certID string) answer {
	c.t.Helper()
	directory := c.do(post{method: http.MethodGet, url: c.server.URL})
	return c.do(post{method: http.MethodGet, url: directory.str("renewalInfo") + "/" + certID})
}

// window returns the suggested window of a reply.
func (a answer) window(t *testing.T) (start, end time.Time) {
	t.Helper()
	var info struct {
		SuggestedWindow struct{ Start, End time.Time }
	}
	if err := json.Unmarshal(a.body, &info); err != nil || a.status != http.StatusOK {
		t.Fatalf("renewalInfo: %d %s (%v)", a.status, a.body, err)
	}
	return info.SuggestedWindow.Start, info.SuggestedWindow.End
}

// The first is the example of RFC 9773, section 4.1.
func TestCertID(t *testing.T) {
	aki := []byte{
		0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3,
		0x7b, 0x84, 0x7b, 0xa0, 0xae, 0x2c, 0xde, 0x01, 0xc8, 0xd4,
	}
	for _, test := range []struct {
		serial *big.Int
		aki    []byte
		want   string
	}{
		{big.NewInt(0x87654321), aki, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"},
		{big.NewInt(0x07654321), aki, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.B2VDIQ"},
		{big.NewInt(0x80), []byte{1}, "AQ.AIA"},
		{big.NewInt(0), []byte{1}, "AQ.AA"},
		{nil, aki, ""},
		{big.NewInt(1), nil, ""},
	} {
		if got := acmetest.CertID(&x509.Certificate{SerialNumber: test.serial, AuthorityKeyId: test.aki}); got != test.want {
			t.Errorf("CertID of serial %x is %q, want %q", test.serial, got, test.want)
		}
	}
}

func TestRenewalWindowIsWhereBoulderHasIt(t *testing.T) {
	for _, test := range []struct {
		lifetime, start, end time.Duration // from NotBefore
	}{
		// 90 days: day 60, plus or minus 0.9 days
		{0, 59*day + 2*time.Hour + 24*time.Minute, 60*day + 21*time.Hour + 36*time.Minute},
		{45 * day, 29*day + 13*time.Hour + 12*time.Minute, 30*day + 10*time.Hour + 48*time.Minute},
		{160 * time.Hour, 80*time.Hour - 96*time.Minute, 80*time.Hour + 96*time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := acmetest.NewUnstartedServer()
			s.Lifetime = test.lifetime
			s.StartMemory()
			defer s.Close()
			c := newRawClient(t, s)
			leaf := c.newLeaf("www.example.com")
			a := c.renewalInfo(acmetest.CertID(leaf))
			start, end := a.window(t)
			// NotAfter is a second before the end of the lifetime, and Boulder
			// counts from there.
			if got := start.Sub(leaf.NotBefore) + time.Second; got != test.start {
				t.Errorf("lifetime %v: the window starts after %v, want %v", test.lifetime, got, test.start)
			}
			if got := end.Sub(leaf.NotBefore) + time.Second; got != test.end {
				t.Errorf("lifetime %v: the window ends after %v, want %v", test.lifetime, got, test.end)
			}
			if got := a.header.Get("Retry-After"); got != "21600" {
				t.Errorf("Retry-After %q, want 6 hours", got)
			}
			if a.header.Get("Replay-Nonce") != "" {
				t.Error("a GET was answered with a nonce")
			}
			if strings.Contains(string(a.body), "explanationURL") {
				t.Errorf("an explanation where none is needed: %s", a.body)
			}
		})
	}
}

func TestRenewalInfoRefuses(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	leaf := c.newLeaf("www.example.com")
	// A serial number with a high first bit: its identifier needs the leading
	// 00.
	s.EditCertificate("high.example.com", func(leaf *x509.Certificate) { leaf.SerialNumber = big.NewInt(0x87654321) })
	high := c.newLeaf("high.example.com")
	aki := conformance.B64(high.AuthorityKeyId)

	for _, test := range []struct {
		name, certID, problem string
		status                int
	}{
		{"a certificate", acmetest.CertID(leaf), "", 200},
		{"a serial with 00", aki + ".AIdlQyE", "", 200},
		{"the same without 00", aki + ".h2VDIQ", "malformed", 400},
		{"a 00 that DER has not", aki + ".AAdlQyE", "malformed", 400},
		{"padding", aki + ".AIdlQyE=", "malformed", 400},
		{"the other base64", aki + ".+/+/", "malformed", 400},
		{"line break", aki + ".%0AAIdlQyE", "malformed", 400},
		{"line break in the key identifier", "%0A" + aki + ".AIdlQyE", "malformed", 400},
		{"bits left over", aki + ".AIdlQyF", "malformed", 400},
		{"no serial", aki + ".", "malformed", 400},
		{"no key identifier", ".AIdlQyE", "malformed", 400},
		{"one part", aki, "malformed", 400},
		{"three parts", aki + ".AIdlQyE.AIdlQyE", "malformed", 400},
		{"nothing", "", "malformed", 400},
		{"another CA", "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE", "malformed", 404},
		{"another serial", aki + ".B2VDIQ", "malformed", 404},
	} {
		a := c.renewalInfo(test.certID)
		if a.status != test.status || a.problem() != test.problem {
			t.Errorf("%s: %d %s", test.name, a.status, a.body)
		}
	}
	url := c.endpoint("/renewal-info/" + acmetest.CertID(leaf))
	if a := c.get(url); a.status != 405 || a.header.Get("Allow") != "GET, HEAD" || a.header.Get("Replay-Nonce") == "" {
		t.Errorf("POST: %d %v", a.status, a.header)
	}
}

func TestRenewalWindowCanBeSetAndUnset(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	leaf, other := c.newLeaf("www.example.com"), c.newLeaf("other.example.com")
	id := acmetest.CertID(leaf)
	usualStart, usualEnd := c.renewalInfo(id).window(t)
	at := time.Date(2030, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))

	for _, w := range []acmetest.RenewalWindow{
		{Start: at, End: at.Add(time.Hour), ExplanationURL: "https://example.com/why"},
		{Start: at, End: at.Add(-time.Hour)}, // no CA may say so
		{Start: at, End: at},
	} {
		s.SetRenewalWindow(leaf, w)
		a := c.renewalInfo(id)
		start, end := a.window(t)
		if !start.Equal(w.Start) || !end.Equal(w.End) || a.str("explanationURL") != w.ExplanationURL {
			t.Errorf("window %v: %s", w, a.body)
		}
	}
	s.SetRenewalWindow(leaf, acmetest.RenewalWindow{Start: at, End: at.AddDate(9000, 0, 0)}) // no panic
	if a := c.renewalInfo(id); a.status != 200 || !strings.Contains(string(a.body), "11030") {
		t.Errorf("a year of five digits: %d %s", a.status, a.body)
	}
	if start, _ := c.renewalInfo(acmetest.CertID(other)).window(t); start.Equal(at) {
		t.Error("another certificate has the window too")
	}
	s.SetRenewalWindow(leaf, acmetest.RenewalWindow{ExplanationURL: "https://example.com/"})
	a := c.renewalInfo(id)
	start, end := a.window(t)
	if !start.Equal(usualStart) || !end.Equal(usualEnd) || a.str("explanationURL") != "https://example.com/" {
		t.Errorf("with an explanation alone: %s", a.body)
	}
	s.SetRenewalWindow(leaf, acmetest.RenewalWindow{})
	a = c.renewalInfo(id)
	if start, end := a.window(t); !start.Equal(usualStart) || !end.Equal(usualEnd) || a.str("explanationURL") != "" {
		t.Errorf("zero window: %s", a.body)
	}
}

func TestRevokedCertificateShallBeRenewedNow(t *testing.T) {
	for _, test := range []struct {
		name   string
		revoke func(*rawClient, *x509.Certificate)
	}{
		{"by its owner", func(c *rawClient, leaf *x509.Certificate) {
			if a := c.revokeLeaf(leaf); a.status != 200 {
				c.t.Fatalf("revokeCert: %s", a.body)
			}
		}},
		{"by the CA", func(c *rawClient, leaf *x509.Certificate) { c.server.Revoke(leaf) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := acmetest.NewMemoryServer()
				defer s.Close()
				c := newRawClient(t, s)
				leaf := c.newLeaf("www.example.com")
				id := acmetest.CertID(leaf)
				s.SetRenewalWindow(leaf, acmetest.RenewalWindow{Start: time.Now().Add(day), End: time.Now().Add(2 * day)})
				test.revoke(c, leaf)
				a := c.renewalInfo(id)
				start, end := a.window(t)
				if !start.Before(end) || !end.Before(time.Now()) || a.str("explanationURL") == "" {
					t.Errorf("renewalInfo: %s, now %v", a.body, time.Now())
				}
				time.Sleep(day)
				if again, _ := c.renewalInfo(id).window(t); !again.Equal(start) {
					t.Errorf("the window moved from %v to %v", start, again)
				}
				if revoked := s.Revoked(); len(revoked) != 1 || !revoked[0].Equal(leaf) {
					t.Errorf("%d certificates are revoked", len(revoked))
				}
				s.SetRenewalWindow(leaf, acmetest.RenewalWindow{Start: time.Now(), End: time.Now().Add(day)})
				if start, _ := c.renewalInfo(id).window(t); !start.Equal(time.Now()) {
					t.Errorf("a window set after the revocation does not count: it starts at %v", start)
				}
			})
		})
	}
}

func TestRenewalInfoRetryAfterCanBeAnything(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	id := acmetest.CertID(c.newLeaf("www.example.com"))
	for _, test := range []struct {
		endpoint    acmetest.Endpoint
		value, want string
	}{
		{acmetest.Order, "7", "21600"},
		{acmetest.Any, "8", "8"},
		{acmetest.RenewalInfo, "-1", "-1"},
		{acmetest.RenewalInfo, "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"},
		{acmetest.RenewalInfo, "", ""},
	} {
		s.RetryAfter(test.endpoint, test.value)
		if got := c.renewalInfo(id).header.Get("Retry-After"); got != test.want {
			t.Errorf("RetryAfter(%q, %q): the header is %q, want %q", test.endpoint, test.value, got, test.want)
		}
	}
	if a := c.renewalInfo("AQ.AQ"); a.header.Get("Retry-After") != "" {
		t.Error("a refusal carries Retry-After")
	}
}

func TestRenewalInfoIsAboutTheCertificatesNames(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	id, other := acmetest.CertID(c.newLeaf("www.example.com")), acmetest.CertID(c.newLeaf("other.example.com"))
	fault := s.Status(acmetest.Match{Endpoint: acmetest.RenewalInfo, Host: "www.example.com"}, 503, nil, acmetest.Problem{})
	if a := c.renewalInfo(id); a.status != 503 {
		t.Errorf("the fault did not hit: %d", a.status)
	}
	if a := c.renewalInfo(other); a.status != 200 {
		t.Errorf("the fault hit another name: %d", a.status)
	}
	fault.Lift()
	c.renewalInfo(id)
	if got := s.CountHost(acmetest.RenewalInfo, "www.example.com"); got != 2 {
		t.Errorf("%d requests about the name, want 2\n%v", got, s)
	}
}

func TestNoRenewalInfo(t *testing.T) {
	s := acmetest.NewUnstartedServer()
	s.NoRenewalInfo = true
	s.StartMemory()
	defer s.Close()
	c := newRawClient(t, s)
	id := acmetest.CertID(c.newLeaf("www.example.com"))
	if a := c.do(post{method: http.MethodGet, url: s.URL}); a.object["renewalInfo"] != nil {
		t.Errorf("directory: %s", a.body)
	}
	if a := c.do(post{method: http.MethodGet, url: c.endpoint("/renewal-info/" + id)}); a.status != 404 {
		t.Errorf("renewalInfo: %d", a.status)
	}
	if a := c.replace(id, "www.example.com"); a.status != 201 || a.object["replaces"] != nil {
		t.Errorf("newOrder with an unknown member: %d %s", a.status, a.body)
	}
}

func TestForeignCertificatesPanic(t *testing.T) {
	s, other := acmetest.NewMemoryServer(), acmetest.NewMemoryServer()
	defer s.Close()
	defer other.Close()
	leaf := newRawClient(t, other).newLeaf("www.example.com")
	for name, f := range map[string]func(){
		"SetRenewalWindow": func() { s.SetRenewalWindow(leaf, acmetest.RenewalWindow{}) },
		"Revoke":           func() { s.Revoke(leaf) },
	} {
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.Contains(v.(string), "www.example.com") {
					t.Errorf("%s: recovered %v", name, v)
				}
			}()
			f()
		}()
	}
	if got := s.Issued(); len(got) != 0 { // hangs if the lock is still held
		t.Errorf("%d certificates", len(got))
	}
}
