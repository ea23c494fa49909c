package certmgr_test

import (
	"context"
	"crypto"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/text"
)

// brokenCallback is the user's code that panics.
func brokenCallback() { panic("broken") }

// brokenSigner is a key in a hardware module that panics.
type brokenSigner struct{ crypto.Signer }

func (brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	brokenCallback()
	return nil, nil
}

// brokenTripper is an HTTP transport that panics.
type brokenTripper struct{}

func (brokenTripper) RoundTrip(*http.Request) (*http.Response, error) {
	brokenCallback()
	return nil, nil
}

// brokenCause is an error whose Unwrap panics.
type brokenCause struct{}

func (brokenCause) Error() string { return "broken" }
func (brokenCause) Unwrap() error { brokenCallback(); return nil }

// brokenDelete is a Cache whose Delete panics.
type brokenDelete struct{ *faultyCache }

func (brokenDelete) Delete(context.Context, string) error { brokenCallback(); return nil }

// A panic in any callback ends neither the process nor the Manager. One event
// has its stack.
func TestPanicOfACallbackIsToldOnceWithItsStack(t *testing.T) {
	tests := []struct {
		callback string // named by the event
		in       string // a function on the stack; empty means brokenCallback
		set      func(w *world)
	}{
		{"Cache.Get", "", func(w *world) { w.cache.get(func(context.Context, string) error { brokenCallback(); return nil }) }},
		{"Cache.Get", "Unwrap", func(w *world) { w.cache.get(func(context.Context, string) error { return brokenCause{} }) }},
		{"Cache.Get", "PathError", func(w *world) {
			w.cache.get(func(context.Context, string) error { var err *fs.PathError; return err }) // not nil
		}},
		{"Cache.Get", "func", func(w *world) { w.cache.get(func(context.Context, string) error { runtime.Goexit(); return nil }) }},
		{"Cache.Put or Delete", "", func(w *world) { w.cache.put(func(context.Context, string) error { brokenCallback(); return nil }) }},
		{"Cache.Put or Delete", "", func(w *world) { w.m.Cache = brokenDelete{w.cache} }},
		{"HostPolicy", "", func(w *world) {
			w.m.Hosts, w.m.HostPolicy = nil, func(context.Context, string) error { brokenCallback(); return nil }
		}},
		{"Prompt", "", func(w *world) {
			w.ca.ChangeTerms("https://ca.example/terms")
			w.m.Prompt = func(string) bool { brokenCallback(); return true }
		}},
		{"Client.HTTPClient", "", func(w *world) { w.m.Client.HTTPClient = &http.Client{Transport: brokenTripper{}} }},
		{"account registration", "", func(w *world) { w.m.Client.Key = brokenSigner{newECDSAKey()} }},
		{"account registration", "", func(w *world) {
			w.m.Client.RetryBackoff = func(int, *http.Request, *http.Response) time.Duration { brokenCallback(); return 0 }
			w.ca.Status(acmetest.Match{Endpoint: acmetest.NewAccount}, 500, nil, acmetest.Problem{Type: "serverInternal"})
		}},
		{"PreflightResolver", "", func(w *world) {
			w.m.Preflight, w.m.PreflightResolver = preflight.Enforce, brokenResolver{}
		}},
		{"PreflightDial", "", func(w *world) {
			w.m.Preflight, w.m.PreflightResolver = preflight.Enforce, oneAddress{}
			w.m.PreflightDial = func(context.Context, string, string) (net.Conn, error) { brokenCallback(); return nil, nil }
		}},
	}
	for _, tt := range tests {
		t.Run(tt.callback+" "+tt.in, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				tt.set(w)
				w.get("a.example.com")
				var told []audit.Event
				for _, e := range w.events.of(audit.CallbackPanicked) {
					if strings.HasPrefix(e.Reason, tt.callback) {
						told = append(told, e)
					}
				}
				if len(told) != 1 {
					t.Fatalf("%d events of %s, want 1: %v", len(told), tt.callback, w.events)
				}
				in := tt.in
				if in == "" {
					in = "certmgr_test.brokenCallback"
				}
				e := told[0]
				if !strings.Contains(e.Stack, in) || len(e.Stack) > text.MaxStack || strings.Contains(e.Stack, "\n") {
					t.Errorf("the stack does not name %s in one line: %q", in, e.Stack)
				}
				if line := e.String(); !strings.Contains(line, in) || !e.IsFailure() {
					t.Errorf("the text form lacks the stack: %s", line)
				}
				for _, other := range w.events.of(audit.IssuanceFailed) {
					if other.Stack != "" {
						t.Errorf("a second event has the stack: %v", other)
					}
				}
			})
		})
	}
}

// Panics of one callback are counted for a minute.
func TestPanicsAreCoalesced(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts, w.m.HostPolicy = nil, func(context.Context, string) error { brokenCallback(); return nil }
		for range 120 {
			w.get("a.example.com")
			time.Sleep(time.Second)
		}
		told := w.events.of(audit.CallbackPanicked)
		if len(told) != 2 || told[0].Count != 1 || told[1].Count != 60 {
			t.Errorf("told: %v, want 2 events, of 1 and 60 panics", told)
		}
	})
}

// A hook that panics for every event is told to slog with its stack, once a
// minute.
func TestPanicOfTheHookIsToldWithItsStack(t *testing.T) {
	log := quietLog(t)
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Audit = func(context.Context, audit.Event) { brokenCallback() }
		w.mustGet("a.example.com")
		w.mustGet("b.example.com")
		synctest.Wait()
	})
	if n := strings.Count(log.String(), "stack="); n != 1 {
		t.Errorf("%d stacks are logged, want 1:\n%s", n, log)
	}
	if !strings.Contains(log.String(), "certmgr_test.brokenCallback") || !strings.Contains(log.String(), "Manager.Audit") {
		t.Errorf("the log does not say where the hook panicked:\n%s", log)
	}
}

// brokenResolver is a resolver that panics.
type brokenResolver struct{}

func (brokenResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	brokenCallback()
	return nil, nil
}

// oneAddress is a resolver that knows one public address.
type oneAddress struct{}

func (oneAddress) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("93.184.216.34")}, nil
}

// An error whose methods panic is the callback's panic, and not the end of the
// process.
func TestErrorThatPanicsIsAPanicOfItsCallback(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.get(func(context.Context, string) error { return brokenCause{} })
		if _, err := w.get("a.example.com"); !errors.Is(err, certmgr.ErrCache) {
			t.Errorf("got %v, want ErrCache", err)
		}
	})
}
