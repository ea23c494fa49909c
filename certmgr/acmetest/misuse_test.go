package acmetest_test

import (
	"context"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// Before the start nothing is reached, whatever a client does with URL and
// Client: x/crypto's takes an empty URL for Let's Encrypt, and a nil client for
// the default one.
func TestNothingIsReachedBeforeTheStart(t *testing.T) {
	for want, s := range map[string]*acmetest.Server{
		"call Start or StartMemory": acmetest.NewUnstartedServer(),
		"NewServer":                 new(acmetest.Server),
	} {
		client := &acme.Client{DirectoryURL: s.URL, HTTPClient: s.Client(), Key: newECKey(t)}
		_, err := client.Register(t.Context(), &acme.Account{}, acme.AcceptTOS)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	s := acmetest.NewUnstartedServer()
	if !strings.HasSuffix(strings.Split(s.URL, "/")[2], ".invalid") { // never resolves (RFC 6761, section 6.4)
		t.Errorf("the URL is %q", s.URL)
	}
	client := s.Client()
	s.StartMemory()
	defer s.Close()
	if err := visit(client, s.URL); err != nil {
		t.Errorf("the same client after the start: %v", err)
	}
}

// The client of a listener does not reach other CAs, such as Let's Encrypt if
// the test forgot to set the URL.
func TestClientOfListenerReachesNothingElse(t *testing.T) {
	s, other := acmetest.NewServer(), acmetest.NewServer()
	defer s.Close()
	defer other.Close()
	for _, url := range []string{other.URL, "https://acme-v02.api.letsencrypt.org/directory", "http://192.0.2.1/"} {
		if err := visit(s.Client(), url); err == nil || !strings.Contains(err.Error(), "only the test's CA at 127.0.0.1:") {
			t.Errorf("%s: error %v", url, err)
		}
	}
}

// visit gets a URL, and closes the body.
func visit(client *http.Client, url string) error {
	res, err := client.Get(url)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

func TestNoListenerInBubbles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got := panicOf(func() { acmetest.NewServer() }); !strings.Contains(got, "NewMemoryServer") {
			t.Errorf("panic %q", got)
		}
	})
}

// A server that was made outside of a bubble panics inside, at whatever is
// called first.
func TestServersFromOutsidePanicInBubbles(t *testing.T) {
	for name, s := range map[string]*acmetest.Server{"memory": acmetest.NewMemoryServer(), "listener": acmetest.NewServer()} {
		t.Run(name, func(t *testing.T) {
			defer s.Close()
			held := s.Client()
			synctest.Test(t, func(t *testing.T) {
				everyMethodPanics(t, s, "call NewMemoryServer inside synctest.Test")
				if name == "memory" {
					if got := panicOf(func() { _ = visit(held, s.URL) }); !strings.Contains(got, "inside synctest.Test") {
						t.Errorf("a request: panic %q", got)
					}
				}
			})
			if err := visit(held, s.URL); err != nil {
				t.Errorf("outside: %v", err)
			}
		})
	}
}

// A server of one bubble panics in another and outside, unless it is only
// looked at.
func TestServersOfABubblePanicElsewhere(t *testing.T) {
	var s *acmetest.Server
	var client *http.Client
	synctest.Test(t, func(*testing.T) {
		s = acmetest.NewMemoryServer()
		client = s.Client()
	})
	elsewhere := func(t *testing.T) {
		for name, f := range map[string]func(){
			"Client":    func() { s.Client() },
			"Close":     s.Close,
			"Stop":      s.Stop,
			"Restart":   s.Restart,
			"a request": func() { _ = visit(client, s.URL) },
			"WaitUntil": func() { _ = s.WaitUntil(t.Context(), "", func() bool { return true }) },
		} {
			if got := panicOf(f); !strings.Contains(got, "inside the same synctest.Test") {
				t.Errorf("%s: panic %q", name, got)
			}
		}
		if s.Count(acmetest.Any) != 0 || len(s.Requests()) != 0 || s.String() == "" {
			t.Error("there were requests")
		}
	}
	elsewhere(t)
	synctest.Test(t, elsewhere)
}

// everyMethodPanics calls all methods but those that begin and end a server.
func everyMethodPanics(t *testing.T, s *acmetest.Server, want string) {
	t.Helper()
	typ := reflect.TypeFor[*acmetest.Server]()
	for i := range typ.NumMethod() {
		method := typ.Method(i)
		if slices.Contains([]string{"Close", "Start", "StartMemory", "String"}, method.Name) {
			continue
		}
		got := panicOf(func() { method.Func.Call(arguments(t, s, method.Type, 0, nil)) })
		if !strings.Contains(got, want) {
			t.Errorf("%s: panic %q, want one with %q", method.Name, got, want)
		}
	}
}

// started returns a server with a value in each field that refers to others.
func started() *acmetest.Server {
	s := acmetest.NewUnstartedServer()
	s.EAB = map[string][]byte{"id": []byte("key")}
	s.Challenges = []string{"http-01"}
	s.Profiles = acmetest.LetsEncryptProfiles()
	s.RateLimits = acmetest.LetsEncryptRateLimits()
	s.Root = acmetest.NewRoot()
	s.StartMemory()
	return s
}

// lateChanges holds a change of each field, and changes of what fields lead to.
func lateChanges(t *testing.T) map[string]func(s *acmetest.Server) {
	changes := map[string]func(s *acmetest.Server){
		"EAB: a key":              func(s *acmetest.Server) { s.EAB["id"][0]++ },
		"Challenges: a type":      func(s *acmetest.Server) { s.Challenges[0] = "dns-01" },
		"Profiles: an addition":   func(s *acmetest.Server) { s.Profiles["x"] = acmetest.Profile{} },
		"Profiles: a lifetime":    func(s *acmetest.Server) { s.Profiles["classic"] = acmetest.Profile{Lifetime: 1} },
		"RateLimits: a limit":     func(s *acmetest.Server) { s.RateLimits.NewOrders.Burst++ },
		"RateLimits: an endpoint": func(s *acmetest.Server) { delete(s.RateLimits.Requests, acmetest.NewOrder) },
		"RateLimits: its function": func(s *acmetest.Server) {
			s.RateLimits.RegisteredDomain = func(string) (string, error) { return "", nil }
		},
	}
	typ := reflect.TypeFor[acmetest.Server]()
	for i := range typ.NumField() {
		field := typ.Field(i)
		if !field.IsExported() {
			continue
		}
		changes[field.Name+": another value"] = func(s *acmetest.Server) {
			switch v := reflect.ValueOf(s).Elem().Field(i); v.Kind() {
			case reflect.String:
				v.SetString(v.String() + "x")
			case reflect.Bool:
				v.SetBool(!v.Bool())
			case reflect.Int, reflect.Int64:
				v.SetInt(v.Int() + 1)
			case reflect.Func:
				v.Set(reflect.MakeFunc(v.Type(), func([]reflect.Value) []reflect.Value { return nil }))
			case reflect.Interface:
				v.Set(reflect.ValueOf(new(net.TCPListener)))
			case reflect.Map, reflect.Slice, reflect.Pointer:
				v.SetZero()
			default:
				t.Fatalf("no change of %s", field.Name)
			}
		}
	}
	return changes
}

// A field that is set too late does not go unnoticed: requests are refused, and
// all methods panic.
func TestFieldsSetAfterTheStartAreFound(t *testing.T) {
	for what, change := range lateChanges(t) {
		t.Run(what, func(t *testing.T) {
			s := started()
			everythingStillWorks(t, s)
			client, url := s.Client(), s.URL
			change(s)
			field, _, _ := strings.Cut(what, ":")
			want := "the field " + field + " was changed after the start"
			everyMethodPanics(t, s, want)
			if !strings.Contains(s.String(), want) {
				t.Errorf("String returns %s", s)
			}
			res, err := client.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusBadRequest {
				t.Errorf("a request: %s", res.Status)
			}
			if got := panicOf(s.Close); !strings.Contains(got, want) || !strings.Contains(got, "NewUnstartedServer") {
				t.Errorf("Close: panic %q", got)
			}
			if err := visit(client, url); err == nil {
				t.Error("Close did not end it")
			}
		})
	}
}

func everythingStillWorks(t *testing.T, s *acmetest.Server) {
	t.Helper()
	if n := s.Count(acmetest.Any); n != 0 {
		t.Errorf("%d requests", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.WaitInFlight(ctx, 0); err != nil {
		t.Error(err)
	}
}

func TestZeroServerPanics(t *testing.T) {
	s := new(acmetest.Server)
	if got := panicOf(s.Close); !strings.Contains(got, "NewUnstartedServer") {
		t.Errorf("Close: panic %q", got)
	}
	if got := panicOf(func() { s.Resolve("*", acmetest.Target{}) }); !strings.Contains(got, "NewUnstartedServer") {
		t.Errorf("Resolve: panic %q", got)
	}
}
