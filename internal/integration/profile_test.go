package integration

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// The profiles of a CA that requires an external account binding, by host and at
// a renewal, whose order is signed again with replaces.
func TestProfiles(t *testing.T) {
	l := listen(t)
	profiles := map[string]time.Duration{"default": 90 * day, "shortlived": 6 * day}
	p := startPebble(t, pebbleConfig{
		tlsPort:  port(l),
		eab:      map[string]string{"kid-1": base64.RawURLEncoding.EncodeToString(boundKey)},
		profiles: profiles,
	})
	asked := map[string]string{"www.example.org": "shortlived", "mail.example.org": "default"}
	m := newManager(t, p, new(cache.Memory), "www.example.org", "mail.example.org")
	m.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: "kid-1", Key: boundKey}
	m.Profile = "shortlived"
	m.HostSettings = map[string]certmgr.HostSettings{"mail.example.org": {Profile: "default"}}
	addr := serveTLS(t, l, m.TLSConfig())
	for host, profile := range asked {
		for _, again := range []bool{false, true} {
			if again {
				if err := m.Renew(t.Context(), host); err != nil {
					t.Fatal(err)
				}
			}
			leaf := mustVisit(t, addr, host, p.roots, nil)
			if got := leaf.NotAfter.Sub(leaf.NotBefore).Round(time.Hour); got != profiles[profile] {
				t.Errorf("%s, renewed %t: a lifetime of %s, want %s", host, again, got, profiles[profile])
			}
		}
	}
	m.close(t)
	for _, kind := range []audit.Kind{audit.IssuanceStarted, audit.CertificateIssued} {
		for _, e := range m.events.of(kind) {
			if e.Profile != asked[e.Host] {
				t.Errorf("%s of %s has the profile %q", kind, e.Host, e.Profile)
			}
		}
	}
	if n := m.traffic.sent(newOrder); n != 4 {
		t.Errorf("%d orders, want 4", n)
	}
	wantNoKey(t, m, nil)
}

// A profile that Pebble does not list, without an order, and one that it refuses.
func TestProfileThatTheCADoesNotHave(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{
		tlsPort:  port(l),
		profiles: map[string]time.Duration{"default": 90 * day, "shortlived": 6 * day},
	})
	const host = "www.example.org"

	t.Run("not listed", func(t *testing.T) {
		m := newManager(t, p, new(cache.Memory), host)
		m.Profile = "tlsserver"
		err := m.Obtain(t.Context(), host)
		for _, says := range []string{host, `Manager.Profile "tlsserver" is not offered by the CA, which offers default, shortlived`} {
			if !errors.Is(err, certmgr.ErrBadSetting) || !strings.Contains(err.Error(), says) {
				t.Errorf("the error lacks %q: %v", says, err)
			}
		}
		m.close(t)
		if n := m.traffic.sent(newOrder); n > 0 {
			t.Errorf("%d orders", n)
		}
		if n := len(m.events.of(audit.ConfigurationWarning)); n != 1 {
			t.Errorf("%d warnings", n)
		}
	})
	t.Run("refused", func(t *testing.T) {
		m := newManager(t, p, new(cache.Memory), host)
		m.Client.HTTPClient.Transport = listing{m.Client.HTTPClient.Transport, "ghost"}
		m.Profile = "ghost"
		err := m.Obtain(t.Context(), host)
		problem, ok := errors.AsType[*acme.Error](err)
		if !errors.Is(err, certmgr.ErrBadSetting) || !ok || !strings.HasSuffix(problem.ProblemType, ":invalidProfile") ||
			!strings.Contains(err.Error(), `Manager.Profile "ghost" is refused by the CA`) {
			t.Errorf("the error is %v", err)
		}
		if _, again := m.GetCertificate(&tls.ClientHelloInfo{ServerName: host}); !errors.Is(again, certmgr.ErrBadSetting) {
			t.Errorf("the next handshake: %v", again)
		}
		m.close(t)
		if n := m.traffic.sent(newOrder); n != 1 {
			t.Errorf("%d orders, want 1", n)
		}
		if failed := m.events.of(audit.CAUnavailable); len(failed) > 0 {
			t.Errorf("the CA is blamed: %v", failed)
		}
	})
}

// listing makes a CA's directory list one more profile.
type listing struct {
	http.RoundTripper
	profile string
}

func (l listing) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := l.RoundTripper.RoundTrip(req)
	if err != nil || !strings.HasSuffix(req.URL.Path, "/dir") {
		return res, err
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	body = bytes.Replace(body, []byte(`"default":`), []byte(`"`+l.profile+`": "", "default":`), 1)
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	res.Header.Del("Content-Length")
	return res, err
}
