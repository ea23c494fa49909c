package certmgr_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

// gateway stands between a Manager and the CA. It gives up on key changes with a 504,
// and passes the first one on when late is over.
type gateway struct {
	next http.RoundTripper
	late time.Duration

	mu      sync.Mutex
	closed  bool // the gateway does so
	passed  bool
	refuses bool // in the CA's words
	pending sync.WaitGroup
}

func (g *gateway) RoundTrip(r *http.Request) (*http.Response, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed || r.URL.Path != "/key-change" {
		g.mu.Unlock()
		defer g.mu.Lock()
		return g.next.RoundTrip(r)
	}
	if g.refuses {
		return answer(r, http.StatusForbidden, "application/problem+json", problemJSON("unauthorized")), nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if !g.passed {
		g.passed = true
		late := r.Clone(context.Background())
		late.Body = io.NopCloser(bytes.NewReader(body))
		g.pending.Go(func() {
			time.Sleep(g.late)
			if res, err := g.next.RoundTrip(late); err == nil {
				res.Body.Close()
			}
		})
	}
	return answer(r, http.StatusGatewayTimeout, "text/html", "<h1>504</h1>"), nil
}

func answer(r *http.Request, status int, contentType, body string) *http.Response {
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status, " ", http.StatusText(status)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}
}

// problemJSON is a problem document of the CA's.
func problemJSON(kind string) string {
	return `{"type":"urn:ietf:params:acme:error:` + kind + `","detail":"no"}`
}

// behindGateway puts a gateway in front of the world's CA, for a Manager with an account.
func (w *world) behindGateway(late time.Duration) *gateway {
	w.t.Helper()
	g := &gateway{next: w.ca.Client().Transport, late: late}
	w.through(g)
	w.mustGet("a.example.com")
	g.close(true)
	return g
}

func (g *gateway) close(closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = closed
}

// through makes the world's Manager, which was not used yet, send by rt.
func (w *world) through(rt http.RoundTripper) { w.m.Client.HTTPClient = &http.Client{Transport: rt} }

// restartThrough is restart for a Manager that sends by rt.
func (w *world) restartThrough(rt http.RoundTripper) {
	w.t.Helper()
	w.restart()
	w.through(rt)
}

// wantOpen calls RollAccountKey and checks that the result is still unknown.
func (w *world) wantOpen() {
	w.t.Helper()
	err := w.m.RollAccountKey(w.t.Context())
	if err == nil || !strings.Contains(err.Error(), "unknown whether") || len(err.Error()) > text.MaxError {
		w.t.Fatalf("RollAccountKey: %v, want that it is not known", err)
	}
	if problem, ok := errors.AsType[*acme.Error](err); !ok || problem.StatusCode != http.StatusGatewayTimeout {
		w.t.Errorf("the error does not tell the CA's answer: %v", err)
	}
}

// The CA makes a change long after the gateway gave up. There is still one
// account, no issuance fails, and the next change succeeds.
func TestKeyChangeThatIsMadeLate(t *testing.T) {
	t.Parallel()
	for i, late := range []time.Duration{0, 3 * time.Second, 20 * time.Second, 61 * time.Second, 3 * time.Minute, time.Hour} {
		for j, what := range []string{"issue", "issue before and after", "restart before", "restart after", "roll again before", "roll again after", "refused when asked again",
			"no cache", "next evicted", "current evicted", "both evicted", "next damaged"} {
			if !runsRow(i+j, 4) {
				continue
			}
			t.Run(fmt.Sprintf("%v, %s", late, what), func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					if what == "no cache" {
						w.m.Cache = nil
					}
					g := w.behindGateway(late)
					defer g.pending.Wait()
					old := w.account()
					w.wantOpenOrMade(late)
					next := w.keyIn(nextAccountCacheKey)
					switch what {
					case "issue before and after":
						w.mustGet("b.example.com")
					case "restart before":
						w.restartThrough(g)
						w.mustGet("b.example.com")
					case "roll again before":
						w.wantOpenOrMade(late)
						if got := w.keyIn(nextAccountCacheKey); late > time.Minute && got != next {
							t.Errorf("the next key was %q and is %q: the only copy was overwritten", next, got)
						}
					case "refused when asked again": // says nothing about the first request
						g.mu.Lock()
						g.refuses = true
						g.mu.Unlock()
						w.m.RollAccountKey(t.Context())
					case "next evicted", "both evicted":
						w.cache.Cache.Delete(t.Context(), nextAccountCacheKey)
					case "next damaged":
						w.cache.Cache.Put(t.Context(), nextAccountCacheKey, []byte("garbage"))
					}
					if what == "current evicted" || what == "both evicted" {
						w.cache.Cache.Delete(t.Context(), accountCacheKey)
					}
					g.pending.Wait()
					if got := w.account().Thumbprint; next != "" && got != next {
						t.Fatalf("the CA has the key %q, want that of the first change, %q", got, next)
					}
					g.close(false)
					switch what {
					case "restart after":
						w.restart()
					case "roll again after":
						w.mustRoll()
					}
					w.mustGet("c.example.com")
					if now := w.account(); now.URL != old.URL || now.Thumbprint == old.Thumbprint {
						t.Errorf("the account was %v and is %v", old, now)
					}
					if what == "next damaged" {
						w.cache.Cache.Delete(t.Context(), nextAccountCacheKey) // as the error says, which is in the way of the next change
					}
					w.mustRoll()
					if what != "no cache" {
						w.wantSettled()
						w.restart()
					}
					w.mustGet("d.example.com")
					w.account()
					if failed := w.events.of(audit.IssuanceFailed); len(failed) != 0 {
						t.Errorf("an issuance failed: %v", failed)
					}
				})
			})
		}
	}
}

// wantOpenOrMade is wantOpen, unless the CA made the change before it was asked.
func (w *world) wantOpenOrMade(late time.Duration) {
	w.t.Helper()
	if late > 10*time.Second {
		w.wantOpen()
		return
	}
	if err := w.m.RollAccountKey(w.t.Context()); err != nil && !strings.Contains(err.Error(), "unknown whether") {
		w.t.Fatalf("RollAccountKey: %v", err)
	}
}

// The same with two machines that share the Cache, one of which may have ended.
func TestKeyChangeThatIsMadeLateForTwoMachines(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{20 * time.Second, 10 * time.Minute} {
		for _, what := range []string{"issue", "roll before", "roll after", "roll at the same time"} {
			t.Run(fmt.Sprintf("%v, %s", late, what), func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					g := w.behindGateway(late)
					defer g.pending.Wait()
					other := w.manager()
					other.Client.HTTPClient = &http.Client{Transport: g}
					defer other.Close()
					roll := func() {
						if err := other.RollAccountKey(t.Context()); err != nil && !strings.Contains(err.Error(), "unknown whether") {
							t.Errorf("RollAccountKey of the other machine: %v", err)
						}
					}
					var wg sync.WaitGroup
					if what == "roll at the same time" {
						wg.Go(func() { other.RollAccountKey(t.Context()) }) // one of them may see that it is not alone
						w.m.RollAccountKey(t.Context())
					} else {
						w.wantOpen()
					}
					wg.Wait()
					if what == "roll before" {
						roll()
					}
					if err := other.Obtain(t.Context(), "b.example.com"); err != nil {
						t.Errorf("Obtain of the other machine, before: %v", err)
					}
					g.pending.Wait()
					g.close(false)
					if what == "roll after" {
						roll()
					}
					if err := other.Renew(t.Context(), "b.example.com"); err != nil {
						t.Errorf("Renew of the other machine, after: %v", err)
					}
					w.mustGet("c.example.com")
					w.mustRoll()
					w.wantSettled()
					if err := other.Renew(t.Context(), "b.example.com"); err != nil {
						t.Errorf("Renew of the other machine, at the end: %v", err)
					}
					w.account()
				})
			})
		}
	}
}

// Close in the middle of a change leaves both keys.
func TestCloseDuringAKeyChangeThatIsMadeLate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.behindGateway(time.Minute)
		defer g.pending.Wait()
		done := make(chan error, 1)
		go func() { done <- w.m.RollAccountKey(t.Context()) }()
		time.Sleep(100 * time.Millisecond) // between two tries
		w.restartThrough(g)
		if err := <-done; err == nil {
			t.Error("RollAccountKey succeeded")
		}
		if w.keyIn(nextAccountCacheKey) == "" || w.keyIn(accountCacheKey) != w.account().Thumbprint {
			t.Error("a key is missing in the cache")
		}
		w.mustGet("b.example.com")
		g.pending.Wait()
		w.mustGet("c.example.com")
		w.account()
		w.wantSettled()
	})
}

// While a change is open a host that the CA refuses, in words that might be about the
// key, has one order and not two.
func TestRefusedHostHasOneOrderWhileAChangeIsOpen(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.behindGateway(time.Hour)
		defer g.pending.Wait()
		w.wantOpen()
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "b.example.com"}, http.StatusForbidden, nil, acmetest.Problem{Type: "unauthorized"})
		w.get("b.example.com")
		w.wantOrders("b.example.com", 1)
		w.mustGet("c.example.com")
	})
}
