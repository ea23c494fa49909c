package certmgr_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/challenge"
)

// What package hosts refuses is told as this package does, by sentinel and by text.
func TestInvalidEntriesAreBadServerNames(t *testing.T) {
	const want = `certmgr: 2 invalid allowlist entries: "co.uk": a public suffix, which no CA certifies; "localhost": a single label`
	_, err := certmgr.NewAllowlist("a.example.com", "co.uk", "localhost")
	if !errors.Is(err, certmgr.ErrBadServerName) || err.Error() != want {
		t.Errorf("NewAllowlist: error\n%v\nwant\n%s", err, want)
	}
	a := certmgr.MustAllowlist("a.example.com")
	for what, err := range map[string]error{
		"Add":     a.Add("co.uk", "localhost"),
		"Replace": a.Because("x").Replace("co.uk", "localhost"),
	} {
		if !errors.Is(err, certmgr.ErrBadServerName) || err.Error() != want {
			t.Errorf("%s: error\n%v\nwant\n%s", what, err, want)
		}
	}
	path := writeHosts(t, "co.uk\n")
	_, err = certmgr.OpenAllowlist(path)
	if !errors.Is(err, certmgr.ErrBadServerName) || err.Error() != fmt.Sprintf(`certmgr: invalid allowlist entry: %s:1: "co.uk": a public suffix, which no CA certifies`, path) {
		t.Errorf("of a file: %v", err)
	}
	rewrite(t, path, "")
	if _, err := certmgr.OpenAllowlist(path); err == nil || errors.Is(err, certmgr.ErrBadServerName) || !strings.HasPrefix(err.Error(), "certmgr: allowlist file "+path+" has no entries") {
		t.Errorf("of an empty file: %v", err)
	}
}

func TestAllowlistFromAnIterator(t *testing.T) {
	a, err := certmgr.CollectAllowlist(slices.Values([]string{"B.example.com", "*.example.org", "b.example.com."}))
	if err != nil {
		t.Fatal(err)
	}
	if all := slices.Collect(a.All()); !slices.Equal(all, []string{"b.example.com", "*.example.org"}) {
		t.Errorf("All() = %q", all)
	}
}

// Each entry that came or went is an event with the caller's reason.
func TestChangesAreEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.m.Hosts.Because("new customer").Add("e.example.com", "*.example.org", "a.example.com")
		w.m.Hosts.Because("customer left").Remove("e.example.com", "nobody.example.com")
		w.m.Hosts.Remove("b.example.com")
		var got []string
		for _, e := range append(w.events.of(audit.HostListed), w.events.of(audit.HostUnlisted)...) {
			got = append(got, fmt.Sprint(e.Kind, " ", e.Host, " ", e.Decision, " ", e.Rule, " ", e.Reason, " ", e.Count))
		}
		want := []string{
			"host_listed e.example.com allowed Hosts new customer 0", "host_listed *.example.org allowed Hosts new customer 0",
			"host_unlisted e.example.com refused Hosts customer left 0", "host_unlisted b.example.com refused Hosts  0",
		}
		if !slices.Equal(got, want) {
			t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// A change of more than 100 entries is one event of each kind.
func TestLargeChangesAreCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		names := make([]string, 101)
		for i := range names {
			names[i] = fmt.Sprintf("h%d.example.com", i)
		}
		w.m.Hosts.Because("import").Add(names...)
		if e := w.events.of(audit.HostListed); len(e) != 1 || e[0].Count != 101 || e[0].Host == "" || e[0].Reason != "import" {
			t.Errorf("101 new entries: %v", e)
		}
		w.m.Hosts.Remove(names[:100]...)
		if e := w.events.of(audit.HostUnlisted); len(e) != 100 || e[0].Count != 0 {
			t.Errorf("%d events of 100 entries", len(e))
		}
	})
}

// A list that changes all the time, under handshakes, reloads and two Managers.
func TestAllowlistUnderConcurrentUse(t *testing.T) {
	path := writeHosts(t, "a.example.com\nb.example.com\n")
	synctest.Test(t, func(t *testing.T) {
		ca := acmetest.NewMemoryServer()
		defer ca.Close()
		a, err := certmgr.OpenAllowlist(path)
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, ca: ca, cache: &faultyCache{}, events: new(recorder)}
		var managers []*certmgr.Manager
		for range 2 {
			m := w.manager()
			m.Cache, m.Hosts, m.HandshakeWait = nil, a, -1
			defer m.Close()
			managers = append(managers, m)
		}
		ca.Resolve("*", acmetest.Target{TLSConfig: managers[0].TLSConfig()})
		hosts := []string{"a.example.com", "b.example.com", "c.example.com"}
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				for n := range 40 {
					host := hosts[(i+n)%len(hosts)]
					switch i % 6 {
					case 0:
						a.Add(host)
					case 1:
						a.Because("gone").Remove(host)
					case 2:
						a.Replace(host, "*.example.org")
					case 3:
						if err := a.Reload(); err != nil {
							t.Error(err)
						}
					case 4:
						for range a.All() {
						}
						a.Contains(host)
						managers[0].HTTPHandler(nil).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "http://"+host+challenge.Path+"x", nil))
					default:
						for _, m := range managers {
							m.Snapshot()
							m.GetCertificate(&tls.ClientHelloInfo{ServerName: host})
						}
					}
					time.Sleep(time.Duration(i*n) * time.Millisecond)
				}
			})
		}
		wg.Wait()
		a.Replace("a.example.com")
		time.Sleep(time.Hour)
		for _, m := range managers {
			for _, st := range m.Snapshot().Hosts {
				if st.Host != "a.example.com" {
					t.Errorf("of a host that is off the list there is %+v", st)
				}
			}
		}
	})
}
