package certmgr_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/bundle"
)

// userCode is all the code that a user can give a Manager: callbacks, and methods of
// what they return. Wherever it runs, no mutex is held, and the Manager's methods
// that wait for no callback return at once.
type userCode struct {
	t       *testing.T
	m       *certmgr.Manager
	mutexes certmgr.Mutexes

	mu      sync.Mutex
	entered map[string]int
	told    map[string]bool
	trying  atomic.Bool
}

// enter is called by all user code.
func (u *userCode) enter(what string) {
	u.mu.Lock()
	u.entered[what]++
	n, told := u.entered[what], u.told[what]
	u.mu.Unlock()
	if told || n > 50 {
		return
	}
	held := u.mutexes.Held()
	if len(held) > 0 {
		u.mu.Lock()
		u.told[what] = true
		u.mu.Unlock()
		u.t.Errorf("%s runs while these are held: %v\n%s", what, held, debug.Stack())
	}
	if len(held) == 0 && n <= 2 && u.trying.CompareAndSwap(false, true) {
		u.tryAll(what)
		u.trying.Store(false)
	}
}

// tryAll calls, in another goroutine, the methods that must not wait for user code.
func (u *userCode) tryAll(what string) {
	done := make(chan string, 20)
	go func() {
		defer close(done)
		for name, call := range map[string]func(){
			"Snapshot":           func() { u.m.Snapshot() },
			"Metrics":            func() { u.m.Metrics() },
			"StaleHosts":         func() { u.m.StaleHosts(day) },
			"Hosts.Add":          func() { u.m.Hosts.Add("added.example.com") },
			"Hosts.Remove":       func() { u.m.Hosts.Remove("added.example.com") },
			"GetConfigForClient": func() { u.m.TLSConfig().GetConfigForClient(&tls.ClientHelloInfo{ServerName: "b.example.com"}) },
			"GetCertificate": func() {
				if certmgr.InMemory(u.m, "b.example.com") > 0 {
					u.m.GetCertificate(&tls.ClientHelloInfo{ServerName: "b.example.com"})
				}
			},
			"HTTPHandler": func() {
				u.m.HTTPHandler(nil).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "http://b.example.com/", nil))
			},
		} {
			call()
			done <- name
		}
	}()
	late := time.After(time.Second)
	for n := 0; ; n++ {
		select {
		case _, ok := <-done:
			if ok {
				continue
			}
		case <-late:
			u.t.Errorf("while %s runs, the methods after the first %d wait for it", what, n)
		}
		return
	}
}

// faults says what fails, with errors of the user's.
type faults struct {
	policy    func(u *userCode, host string) error
	cache     func(u *userCode, op, key string) error
	transport func(u *userCode, path string) error
	validate  bool // the CA cannot validate
}

// newUserCode sets all that a user can set in w.m, and begins to watch.
func newUserCode(t *testing.T, w *world, f faults) *userCode {
	u := &userCode{t: t, m: w.m, entered: make(map[string]int), told: make(map[string]bool)}
	store := &userCache{u: u, fail: func(op, key string) error {
		if f.cache == nil {
			return nil
		}
		return f.cache(u, op, key)
	}}
	w.m.Cache = store
	w.m.HostPolicy = func(_ context.Context, host string) error {
		u.enter("HostPolicy")
		if f.policy == nil {
			return nil
		}
		return f.policy(u, host)
	}
	w.m.PolicyTTL = -1
	w.m.Audit = func(_ context.Context, e audit.Event) {
		u.enter("Audit")
		_ = e.String()
	}
	w.m.Issued = certmgr.RetryIssued(func(context.Context, *tls.Certificate) error {
		u.enter("Issued")
		return u.fail("Issued", nil)
	})
	w.m.Prompt = func(string) bool { u.enter("Prompt"); return true }
	w.m.Client = &acme.Client{
		DirectoryURL: w.ca.URL,
		Key:          userSigner{testKeys()[bundle.ECDSA], u},
		HTTPClient: &http.Client{Transport: userTransport{w.ca.Client().Transport, u, func(path string) error {
			if f.transport == nil {
				return nil
			}
			return f.transport(u, path)
		}}},
		RetryBackoff: func(int, *http.Request, *http.Response) time.Duration {
			u.enter("RetryBackoff")
			return time.Second
		},
	}
	w.m.Preflight = preflight.Report
	w.m.PreflightResolver = userResolver{u}
	w.m.PreflightDial = func(context.Context, string, string) (net.Conn, error) {
		u.enter("PreflightDial")
		return nil, u.fail("PreflightDial", nil)
	}
	if f.validate {
		w.ca.FailValidation("*", "", acmetest.Problem{Type: "unauthorized", Detail: "no"})
	}
	u.mutexes = certmgr.MutexesOf(w.m)
	return u
}

// live is the life of a Manager: each of its stages, whatever fails in them.
func (u *userCode) live(w *world) {
	ctx := userContext{context.Background(), u}
	visit := func(host string) { u.m.GetCertificate(&tls.ClientHelloInfo{ServerName: host, Conn: userConn{u: u}}) }
	w.ca.Resolve("*", acmetest.Target{TLSConfig: u.m.TLSConfig(), HTTPHandler: u.m.HTTPHandler(nil)})
	for _, host := range []string{"b.example.com", "b.example.com", "p.example.org", "p.example.org", "refused.example.org"} {
		visit(host)
		visit(host)
	}
	u.m.Start(ctx)
	time.Sleep(time.Minute)
	for _, path := range []string{"token", strings.Repeat("t", 43)} {
		for _, host := range []string{"b.example.com", "p.example.org", "refused.example.org"} {
			r := httptest.NewRequest("GET", "http://"+host+"/.well-known/acme-challenge/"+path, nil)
			u.m.HTTPHandler(nil).ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
			u.m.GetCertificate(&tls.ClientHelloInfo{ServerName: host, SupportedProtos: []string{"acme-tls/1"}})
		}
	}
	u.m.Obtain(ctx, "c.example.com")
	u.m.Renew(ctx, "b.example.com")
	step := day // renewals included: certificates are valid for 6 days
	if certmgr.InMemory(u.m, "") == 0 && !*everyRow {
		step = time.Hour // there are none to renew, and the same attempt again and again
	}
	for range 5 {
		time.Sleep(step)
		visit("b.example.com")
		visit("p.example.org")
		_ = u.m.Snapshot()
		_ = u.m.Metrics()
	}
	u.m.Hosts.Because("moved").Remove("a.example.com", "d.example.com")
	u.m.Hosts.Replace("b.example.com", "c.example.com", "e.example.com")
	time.Sleep(time.Minute)
	u.m.Revoke(ctx, "c.example.com", acme.CRLReasonKeyCompromise)
	time.Sleep(time.Minute)
	u.m.Close()
	visit("b.example.com")
	visit("p.example.org")
}

// No lock is held while code of a user's runs, whatever it returns and at which stage.
func TestNoLockIsHeldWhileUserCodeRuns(t *testing.T) {
	timeout := func(u *userCode, what string) error {
		return &userError{u: u, what: "the late error of " + what, late: true}
	}
	var requests atomic.Int32
	tests := map[string]faults{
		"all works": {},
		"policy": {policy: func(u *userCode, host string) error {
			switch {
			case strings.HasPrefix(host, "refused"):
				return u.fail("a refusal", nil)
			case u.entries("HostPolicy")%3 == 0:
				return u.fail("an undecided policy", certmgr.ErrPolicy)
			case u.entries("HostPolicy")%3 == 1:
				return timeout(u, "a policy")
			}
			return nil
		}},
		"cache reads": {cache: func(u *userCode, op, key string) error {
			if op == "Get" && u.entries("Cache.Get")%2 == 0 {
				return u.fail("Cache.Get", nil)
			}
			return nil
		}},
		"cache misses": {cache: func(u *userCode, op, key string) error {
			if op == "Get" {
				return u.fail("Cache.Get", certmgr.ErrCacheMiss)
			}
			return nil
		}},
		"cache writes": {cache: func(u *userCode, op, key string) error {
			if op != "Get" {
				return u.fail("Cache."+op, nil)
			}
			return nil
		}},
		"records": {cache: func(u *userCode, op, key string) error {
			if strings.Contains(key, "+") && !strings.Contains(key, "+key") {
				return timeout(u, "Cache."+op)
			}
			return nil
		}},
		"no CA":       {transport: func(u *userCode, path string) error { return u.fail("RoundTrip", nil) }},
		"CA is late":  {transport: func(u *userCode, path string) error { return timeout(u, "RoundTrip") }},
		"no orders":   {transport: func(u *userCode, path string) error { return u.failAt(path, "order") }},
		"no accounts": {transport: func(u *userCode, path string) error { return u.failAt(path, "account") }},
		"CA now and then": {transport: func(u *userCode, path string) error {
			if requests.Add(1)%5 == 0 {
				return u.fail("RoundTrip", io.ErrUnexpectedEOF)
			}
			return nil
		}},
		"validation": {validate: true},
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := acmetest.NewUnstartedServer()
				ca.Lifetime, ca.Terms = 6*day, "https://ca.example/terms"
				ca.StartMemory()
				w := &world{t: t, ca: ca, m: &certmgr.Manager{Hosts: certmgr.MustAllowlist("a.example.com", "b.example.com", "c.example.com")}}
				defer ca.Close()
				u := newUserCode(t, w, f)
				u.live(w)
				synctest.Wait()
				if len(u.mutexes) < 25 {
					t.Errorf("%d mutexes are watched, want all of the components", len(u.mutexes))
				}
				if name == "all works" {
					u.wantEntered("HostPolicy", "Prompt", "Cache.Get", "Cache.Put", "Cache.Delete", "Audit", "RoundTrip", "Body.Read", "Body.Close",
						"Signer.Public", "Signer.Sign", "LookupNetIP", "PreflightDial", "Issued", "the error of Issued.Error", "RemoteAddr", "Addr.String", "Context.Done", "the error of PreflightDial.Error")
				}
			})
		})
	}
}

func (u *userCode) entries(what string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.entered[what]
}

// failAt fails if a path contains part.
func (u *userCode) failAt(path, part string) error {
	if strings.Contains(strings.ToLower(path), part) {
		return u.fail("RoundTrip", nil)
	}
	return nil
}

// wantEntered checks that all this ran, or the test would show nothing.
func (u *userCode) wantEntered(whats ...string) {
	u.t.Helper()
	var missing []string
	for _, what := range whats {
		if u.entries(what) == 0 {
			missing = append(missing, what)
		}
	}
	if len(missing) > 0 {
		u.t.Errorf("never called: %q", missing)
	}
}

// A lock that is held while user code runs is found.
func TestHeldLockIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		mutexes := certmgr.MutexesOf(w.m)
		synctest.Wait() // so that nobody else holds any
		for path, mu := range mutexes {
			mu.Lock()
			if held := mutexes.HeldFor(1000); len(held) != 1 || held[0] != path {
				t.Errorf("%v are found to be held, want %s", held, path)
			}
			mu.Unlock()
		}
		if held := mutexes.Held(); len(held) != 0 {
			t.Errorf("held: %v", held)
		}
	})
}
