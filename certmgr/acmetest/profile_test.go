package acmetest_test

import (
	"crypto/x509"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// profiled starts a server with the profiles of Let's Encrypt in memory.
func profiled(byDefault string) *acmetest.Server {
	s := acmetest.NewUnstartedServer()
	s.Profiles, s.DefaultProfile = acmetest.LetsEncryptProfiles(), byDefault
	s.ReuseAuthorizations = true
	s.StartMemory()
	return s
}

// orderProfile orders a certificate of a profile, which may be empty.
func (c *rawClient) orderProfile(profile string, hosts ...string) answer {
	c.t.Helper()
	for _, host := range hosts {
		c.server.Resolve(host, acmetest.Target{HTTPHandler: keyAuthorizer(c.t, c.key)})
	}
	if profile == "" {
		return c.newOrder(nil, hosts...)
	}
	return c.newOrder(map[string]any{"profile": profile}, hosts...)
}

func TestProfilesShapeTheCertificate(t *testing.T) {
	for _, test := range []struct {
		byDefault, wanted, shown string
		lifetime                 time.Duration
		commonName               string
	}{
		{"classic", "", "classic", 90 * day, "www.example.com"},
		{"classic", "classic", "classic", 90 * day, "www.example.com"},
		{"classic", "tlsserver", "tlsserver", 45 * day, ""},
		{"shortlived", "", "shortlived", 160 * time.Hour, ""},
		{"", "", "", 90 * day, "www.example.com"}, // as without profiles
		{"", "shortlived", "shortlived", 160 * time.Hour, ""},
	} {
		t.Run(test.byDefault+","+test.wanted, func(t *testing.T) {
			s := profiled(test.byDefault)
			defer s.Close()
			c := newRawClient(t, s)
			o := c.orderProfile(test.wanted, "www.example.com")
			if o.status != 201 || o.str("profile") != test.shown {
				t.Fatalf("newOrder: %d %s", o.status, o.body)
			}
			c.validate(o)
			done := c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "www.example.com"))
			if done.str("status") != "valid" || done.str("profile") != test.shown {
				t.Fatalf("finalize: %s", done.body)
			}
			leaf := s.Issued()[0]
			if got := leaf.NotAfter.Add(time.Second).Sub(leaf.NotBefore); got != test.lifetime {
				t.Errorf("lifetime %v, want %v", got, test.lifetime)
			}
			if got := leaf.Subject.CommonName; got != test.commonName {
				t.Errorf("common name %q, want %q", got, test.commonName)
			}
			if !slices.Equal(leaf.DNSNames, []string{"www.example.com"}) {
				t.Errorf("names %v", leaf.DNSNames)
			}
		})
	}
}

func TestAProfileWithoutALifetimeTakesTheServers(t *testing.T) {
	for profile, want := range map[string]time.Duration{"plain": 10 * day, "own": 5 * day} {
		s := acmetest.NewUnstartedServer()
		s.Lifetime = 10 * day
		s.Profiles, s.DefaultProfile = map[string]acmetest.Profile{"plain": {}, "own": {Lifetime: 5 * day}}, profile
		s.StartMemory()
		defer s.Close()
		leaf := newRawClient(t, s).newLeaf("www.example.com")
		if got := leaf.NotAfter.Add(time.Second).Sub(leaf.NotBefore); got != want {
			t.Errorf("%s: lifetime %v, want %v", profile, got, want)
		}
	}
}

func TestTheDirectoryListsTheProfiles(t *testing.T) {
	s := profiled("classic")
	defer s.Close()
	a := newRawClient(t, s).do(post{method: http.MethodGet, url: s.URL})
	meta, _ := a.object["meta"].(map[string]any)
	profiles, _ := meta["profiles"].(map[string]any)
	got := slices.Sorted(maps.Keys(profiles))
	if !slices.Equal(got, []string{"classic", "shortlived", "tlsserver"}) ||
		profiles["shortlived"] != "https://letsencrypt.org/docs/profiles#shortlived" {
		t.Errorf("directory: %s", a.body)
	}

	plain := acmetest.NewMemoryServer()
	defer plain.Close()
	if a := newRawClient(t, plain).do(post{method: http.MethodGet, url: plain.URL}); strings.Contains(string(a.body), "profile") {
		t.Errorf("directory without profiles: %s", a.body)
	}
}

func TestProfilesRefuse(t *testing.T) {
	var many []string
	for range 26 {
		many = append(many, strings.Repeat("a", len(many)+1)+".example.com")
	}
	s, plain := profiled("classic"), acmetest.NewMemoryServer()
	defer s.Close()
	defer plain.Close()
	for _, test := range []struct {
		name    string
		server  *acmetest.Server
		profile string
		hosts   []string
		problem string // "" is an order
	}{
		{"unknown", s, "mine", many[:1], "invalidProfile"},
		{"none offered", plain, "classic", many[:1], "invalidProfile"},
		{"address by default", s, "", []string{"192.0.2.1"}, "rejectedIdentifier"},
		{"address", s, "tlsserver", []string{"www.example.com", "192.0.2.1"}, "rejectedIdentifier"},
		{"address after a name", s, "tlsserver", []string{"1.example.com", "192.0.2.1"}, "rejectedIdentifier"},
		{"address, short-lived", s, "shortlived", []string{"www.example.com", "192.0.2.1"}, ""},
		{"address, no profiles", plain, "", []string{"192.0.2.1"}, ""},
		{"26 names", s, "tlsserver", many, "malformed"},
		{"25 names", s, "tlsserver", many[:25], ""},
		{"26 names, classic", s, "classic", many, ""},
	} {
		a := newRawClient(t, test.server).orderProfile(test.profile, test.hosts...)
		if a.problem() != test.problem || (a.status == 201) != (test.problem == "") || a.status > 400 {
			t.Errorf("%s: %d %s", test.name, a.status, a.body)
		}
	}
}

func TestAuthorizationsAreReusedWithinAProfileForItsTime(t *testing.T) {
	for _, test := range []struct {
		profile, next string
		after         time.Duration
		status        string
	}{
		{"classic", "classic", 29 * day, "ready"},
		{"classic", "", 29 * day, "ready"}, // the default
		{"classic", "classic", 31 * day, "pending"},
		{"tlsserver", "tlsserver", 6 * time.Hour, "ready"},
		{"tlsserver", "tlsserver", 8 * time.Hour, "pending"},
		{"classic", "tlsserver", time.Hour, "pending"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := profiled("classic")
			defer s.Close()
			c := newRawClient(t, s)
			c.validate(c.orderProfile(test.profile, "www.example.com"))
			time.Sleep(test.after)
			if o := c.orderProfile(test.next, "www.example.com"); o.str("status") != test.status {
				t.Errorf("%s after %s and %v: %s, want %s", test.next, test.profile, test.after, o.body, test.status)
			}
		})
	}
}

func TestADefaultProfileThatIsNotThereStopsTheStart(t *testing.T) {
	for _, start := range []func(*acmetest.Server){(*acmetest.Server).Start, (*acmetest.Server).StartMemory} {
		s := acmetest.NewUnstartedServer()
		defer s.Close()
		s.Profiles, s.DefaultProfile = acmetest.LetsEncryptProfiles(), "mine"
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.Contains(v.(string), "mine") {
					t.Errorf("recovered %v", v)
				}
			}()
			start(s)
		}()
	}
}
