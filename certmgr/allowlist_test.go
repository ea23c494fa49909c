package certmgr

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

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// What no CA certifies is refused with the reason that says which it is.
func TestInvalidEntriesSayWhy(t *testing.T) {
	for entry, why := range map[string]string{
		"com":                     "a public suffix, which",
		"co.uk":                   "a public suffix, which",
		"CO.UK.":                  "a public suffix, which",
		"foo.ck":                  "a public suffix, which", // the list has *.ck
		"*.co.uk":                 "a wildcard right below a public suffix",
		"*.com":                   "a wildcard right below a public suffix",
		"localhost":               "a single label",
		"*.internal":              "a single label",
		"192.0.2.1":               "an IP address",
		"*.192.0.2.1":             "an IP address",
		"2001:db8::1":             "an IP address",
		"[2001:db8::1]":           "an IP address",
		"":                        "no name",
		"*.":                      "no name",
		"*":                       "stands for one label",
		"*.*.example.com":         "stands for one label",
		"www.*.example.com":       "stands for one label",
		"a.example.com b.example": "a space",
		"https://example.com/":    "leave out scheme, port and path",
		"example.com:443":         "leave out scheme, port and path",
		"under_score.example.com": "not a valid host name",
		"-a.example.com":          "not a valid host name",
		"a..example.com":          "not a valid host name",
	} {
		_, err := NewAllowlist(entry)
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), fmt.Sprintf("%q", entry)) {
			t.Errorf("NewAllowlist(%q): %v; want the reason %q", entry, err, why)
			continue
		}
		if !errors.Is(err, ErrBadServerName) || strings.ContainsAny(err.Error(), "\n\r") {
			t.Errorf("NewAllowlist(%q): %q is not one line that wraps ErrBadServerName", entry, err)
		}
	}
	// Suffixes of the list's private section are somebody's registered domain.
	for _, entry := range []string{"github.io", "*.github.io", "www.ck", "host.internal", "*.b\u00fccher.example", "\u0440\u0444.\u0440\u0444"} {
		if _, err := NewAllowlist(entry); err != nil {
			t.Errorf("NewAllowlist(%q): %v", entry, err)
		}
	}
}

// An error names the first 100 of thousands, each in bounded length, and counts the rest.
func TestErrorOfThousandsOfBadEntriesIsBounded(t *testing.T) {
	names := func(yield func(string) bool) {
		for i := range 5000 {
			if !yield(fmt.Sprintf("bad%d", i)) || !yield(fmt.Sprintf("good%d.example.com", i)) {
				return
			}
		}
		yield(strings.Repeat("\x00", 1<<20))
	}
	list, err := CollectAllowlist(names)
	if list != nil || err == nil {
		t.Fatal("bad names were accepted")
	}
	text := err.Error()
	for _, want := range []string{"5001 invalid allowlist entries", `"bad0":`, `"bad99":`, "and 4901 more"} {
		if !strings.Contains(text, want) {
			t.Errorf("%.300q ... does not say %q", text, want)
		}
	}
	if strings.Contains(text, `"bad100":`) || strings.Contains(text, "good") || len(text) > 100*200 {
		t.Errorf("the error has %d bytes", len(text))
	}
	_, err = NewAllowlist(strings.Repeat("\x00", 1<<20))
	if len(err.Error()) > 4*maxHostLength+500 {
		t.Errorf("the error of one long name has %d bytes", len(err.Error()))
	}
}

func TestAllowlistFromAnIterator(t *testing.T) {
	a, err := CollectAllowlist(slices.Values([]string{"B.example.com", "*.example.org", "b.example.com."}))
	if err != nil {
		t.Fatal(err)
	}
	if all := slices.Collect(a.All()); !slices.Equal(all, []string{"b.example.com", "*.example.org"}) {
		t.Errorf("All() = %q", all)
	}
}

// A watcher hears of what really changed, with the reason, and in order.
func TestWatchersHearOfRealChanges(t *testing.T) {
	a := MustAllowlist("a.example.com")
	var got []string
	defer a.watch(func(c change) { got = append(got, fmt.Sprintf("%q+%q=%q-%q", c.reason, c.added, c.again, c.removed)) })()
	before := a.names.Load()
	a.Add("a.example.com", "A.example.com.")
	a.Remove("z.example.com", "not a name", "com")
	if a.names.Load() != before {
		t.Error("a change of nothing made a new generation")
	}
	because := a.Because("ticket 1\n")
	because.Add("b.example.com", "a.example.com", "b.example.com")
	because.Replace("b.example.com", "*.example.org", "*.example.org")
	because.Remove("*.example.org")
	because.Add("no")
	want := []string{
		`""+[]=["a.example.com" "a.example.com"]-[]`,
		`""+[]=[]-[]`,
		`"ticket 1\\n"+["b.example.com"]=["a.example.com" "b.example.com"]-[]`,
		`"ticket 1\\n"+["*.example.org"]=[]-["a.example.com"]`,
		`"ticket 1\\n"+[]=[]-["*.example.org"]`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Whoever changes the list at the same time: the last thing that a watcher hears of
// a name is how it stands.
func TestWatchersHearInOrder(t *testing.T) {
	a := new(Allowlist)
	listed := false // a.changing orders the calls
	defer a.watch(func(c change) { listed = len(c.added) > 0 || listed && len(c.removed) == 0 })()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				a.Add("a.example.com")
				a.Remove("a.example.com")
			}
		})
	}
	wg.Go(func() { a.Replace("a.example.com") })
	wg.Wait()
	if listed != a.Contains("a.example.com") {
		t.Errorf("the watcher thinks %v", listed)
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
		a, err := AllowlistFile(path)
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, ca: ca, cache: &faultyCache{}, events: new(recorder)}
		var managers []*Manager
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
						managers[0].HTTPHandler(nil).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "http://"+host+acmePath+"x", nil))
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
