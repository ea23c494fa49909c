package certmgr

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/bundle"
)

const acmeProblem = "urn:ietf:params:acme:error:"

// problemJSON is a problem document of the CA's.
func problemJSON(kind string) string { return `{"type":"` + acmeProblem + kind + `","detail":"no"}` }

// Only the CA's own refusal of every request ends a change; whatever the answer is,
// no key is lost that the CA knows or may know.
func TestWhatEndsAKeyChange(t *testing.T) {
	const html = "text/html"
	const problem = "application/problem+json"
	tests := []struct {
		name    string
		answers []*http.Response // to the change, in turn; the last one repeats
		made    bool             // by the CA, all the same
		ended   bool
	}{
		{name: "a problem", answers: []*http.Response{answer(nil, 403, problem, problemJSON("unauthorized"))}, ended: true},
		{name: "malformed", answers: []*http.Response{answer(nil, 400, problem, problemJSON("malformed"))}, ended: true},
		{name: "a problem, but made", answers: []*http.Response{answer(nil, 403, problem, problemJSON("unauthorized"))}, made: true},
		{name: "a problem after a 504", answers: []*http.Response{answer(nil, 504, html, "late"), answer(nil, 403, problem, problemJSON("unauthorized"))}},
		{name: "a problem after no answer", answers: []*http.Response{nil, answer(nil, 400, problem, problemJSON("malformed"))}},
		{name: "a bad nonce", answers: []*http.Response{answer(nil, 400, problem, problemJSON("badNonce"))}},
		{name: "a rate limit", answers: []*http.Response{answer(nil, 429, problem, problemJSON("rateLimited"))}},
		{name: "a rate limit that is a 403", answers: []*http.Response{answer(nil, 403, problem, problemJSON("rateLimited"))}},
		{name: "an error of the CA", answers: []*http.Response{answer(nil, 500, problem, problemJSON("serverInternal"))}},
		{name: "an error of the CA that is a 400", answers: []*http.Response{answer(nil, 400, problem, problemJSON("serverInternal"))}},
		{name: "the new key in use", answers: []*http.Response{answer(nil, 409, problem, problemJSON("malformed"))}},
		{name: "a request that took too long", answers: []*http.Response{answer(nil, 408, problem, problemJSON("malformed"))}},
		{name: "a proxy's 403", answers: []*http.Response{answer(nil, 403, html, "<h1>Forbidden</h1>")}},
		{name: "a proxy's 404 in JSON", answers: []*http.Response{answer(nil, 404, "application/json", `{"type":"about:blank","status":404}`)}},
		{name: "a portal's 200", answers: []*http.Response{answer(nil, 200, html, "<h1>Log in</h1>")}},
		{name: "a portal's redirect", answers: []*http.Response{answer(nil, 307, html, "")}},
		{name: "no content", answers: []*http.Response{answer(nil, 204, html, "")}},
		{name: "no content, but made", answers: []*http.Response{answer(nil, 204, html, "")}, made: true},
		{name: "garbage, but made", answers: []*http.Response{answer(nil, 200, html, "\x00")}, made: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				base := w.ca.Client().Transport
				var on atomic.Bool
				var n atomic.Int32
				w.through(roundTripper(func(r *http.Request) (*http.Response, error) {
					if r.URL.Path != "/key-change" || !on.Load() {
						return base.RoundTrip(r)
					}
					if tt.made {
						if res, err := base.RoundTrip(r); err == nil {
							res.Body.Close()
						}
					}
					a := tt.answers[min(int(n.Add(1)), len(tt.answers))-1]
					if a == nil {
						return nil, io.ErrUnexpectedEOF
					}
					body, err := io.ReadAll(a.Body)
					if err != nil {
						return nil, err
					}
					a.Body = io.NopCloser(bytes.NewReader(body))
					return answer(r, a.StatusCode, a.Header.Get("Content-Type"), string(body)), nil
				}))
				w.mustGet("a.example.com")
				old := w.account()
				on.Store(true)
				err := w.m.RollAccountKey(t.Context())
				if (err == nil) != tt.made {
					t.Errorf("RollAccountKey: %v, but the CA made the change: %v", err, tt.made)
				}
				if got := w.keyIn(accountCacheKey); got != w.account().Thumbprint {
					t.Errorf("the cache has the key %q, the CA %q", got, w.account().Thumbprint)
				}
				if next := w.keyIn(nextAccountCacheKey); (next == "") != (tt.ended || tt.made) {
					t.Errorf("the next key is %q after: %v", next, err)
				}
				w.mustGet("b.example.com")
				on.Store(false)
				w.mustRoll()
				w.mustGet("c.example.com")
				w.wantSettled()
				if w.account().URL != old.URL || len(w.events.of(audit.IssuanceFailed)) != 0 {
					t.Error("an issuance failed, or the account is another one")
				}
			})
		})
	}
}

// A next key that is not this machine's is neither overwritten nor deleted.
func TestNextKeyOfAnotherMachineStays(t *testing.T) {
	foreign := func(t *testing.T) []byte {
		t.Helper()
		key, err := bundle.GenerateKey(bundle.ECDSA)
		if err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		if err := bundle.EncodeKey(&buf, key); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	t.Run("before the CA is asked", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.mustGet("a.example.com")
			theirs := foreign(t)
			w.cache.get(func(_ context.Context, key string) error {
				if _, err := w.cache.Cache.Get(t.Context(), key); key == nextAccountCacheKey && err == nil {
					w.cache.Cache.Put(t.Context(), key, theirs) // right after ours
				}
				return nil
			})
			if err := w.m.RollAccountKey(t.Context()); err == nil || !strings.Contains(err.Error(), "was not asked") {
				t.Errorf("RollAccountKey: %v", err)
			}
			w.cache.get(nil)
			if data, err := w.cache.Cache.Get(t.Context(), nextAccountCacheKey); err != nil || !bytes.Equal(data, theirs) || w.ca.Count(acmetest.KeyChange) != 0 {
				t.Errorf("the other machine's key is gone (%v), or the CA was asked", err)
			}
		})
	})
	t.Run("when the CA refuses ours", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			theirs := foreign(t)
			base := w.ca.Client().Transport
			w.through(roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/key-change" {
					w.cache.Cache.Put(t.Context(), nextAccountCacheKey, theirs)
					return answer(r, 403, "application/problem+json", problemJSON("unauthorized")), nil
				}
				return base.RoundTrip(r)
			}))
			w.mustGet("a.example.com")
			if err := w.m.RollAccountKey(t.Context()); err == nil {
				t.Error("RollAccountKey succeeded")
			}
			if data, err := w.cache.Cache.Get(t.Context(), nextAccountCacheKey); err != nil || !bytes.Equal(data, theirs) {
				t.Errorf("the other machine's key is gone: %v", err)
			}
		})
	})
}

// onlyLookUps calls f for requests that look up an account, in turn; a nil answer of
// f's lets the CA answer.
func onlyLookUps(base http.RoundTripper, f func(n int, r *http.Request) *http.Response) http.RoundTripper {
	var n atomic.Int32
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodPost || r.URL.Path != "/new-account" {
			return base.RoundTrip(r)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var jws struct{ Payload string }
		if err := json.Unmarshal(body, &jws); err != nil {
			return nil, err
		}
		payload, err := base64.RawURLEncoding.DecodeString(jws.Payload)
		if err != nil {
			return nil, err
		}
		if bytes.Contains(payload, []byte("onlyReturnExisting")) {
			if res := f(int(n.Add(1)), r); res != nil {
				return res, nil
			}
		}
		return base.RoundTrip(r)
	})
}

// Answers to the look-up that are no answer, or are out of date, make no account.
func TestAnswersToTheLookUpMakeNoSecondAccount(t *testing.T) {
	none := problemJSON("accountDoesNotExist")
	tests := []struct {
		name   string
		answer func(n int, r *http.Request) *http.Response
		works  bool // at once
	}{
		{"the new key is not known yet", func(n int, r *http.Request) *http.Response {
			if n == 2 {
				return answer(r, 400, "application/problem+json", none)
			}
			return nil
		}, true},
		{"no key is known yet", func(n int, r *http.Request) *http.Response {
			if n <= 4 {
				return answer(r, 400, "application/problem+json", none)
			}
			return nil
		}, true},
		{"nothing named", func(_ int, r *http.Request) *http.Response {
			return answer(r, 200, "application/json", `{"status":"valid"}`)
		}, false},
		{"garbage", func(_ int, r *http.Request) *http.Response { return answer(r, 200, "text/html", "<h1>") }, false},
		{"a proxy's 404", func(_ int, r *http.Request) *http.Response { return answer(r, 404, "text/html", "<h1>") }, false},
		{"a proxy's 400 with a problem", func(_ int, r *http.Request) *http.Response {
			return answer(r, 400, "application/problem+json", `{"type":"about:blank"}`)
		}, false},
		{"a 503", func(_ int, r *http.Request) *http.Response { return answer(r, 503, "text/html", "<h1>") }, false},
		{"a rate limit", func(_ int, r *http.Request) *http.Response {
			return answer(r, 429, "application/problem+json", problemJSON("rateLimited"))
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.mustGet("a.example.com")
				w.crashes(&crash{at: "put " + accountCacheKey}) // the CA has the new key, the cache has it as the next one
				w.m.RollAccountKey(t.Context())
				old := w.account()
				w.restartThrough(onlyLookUps(w.ca.Client().Transport, tt.answer))
				if _, err := w.get("b.example.com"); (err == nil) != tt.works {
					t.Errorf("GetCertificate: %v", err)
				}
				if now := w.account(); now.URL != old.URL || w.keyIn(accountCacheKey) != old.Thumbprint && w.keyIn(nextAccountCacheKey) != old.Thumbprint {
					t.Errorf("the account was %v and is %v, or its key is lost", old, now)
				}
				w.restart()
				time.Sleep(time.Hour)
				w.mustGet("c.example.com")
				w.wantSettled()
			})
		})
	}
}

// A CA that says of both keys that it does not know them may be mistaken.
func TestKeysThatTheCADoesNotKnowAreAskedAboutTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		old := w.account()
		w.crashes(&crash{at: "ask /key-change"})
		w.m.RollAccountKey(t.Context())
		w.restartThrough(onlyLookUps(w.ca.Client().Transport, func(n int, r *http.Request) *http.Response {
			if n <= 2 {
				return answer(r, 400, "application/problem+json", problemJSON("accountDoesNotExist"))
			}
			return nil
		}))
		w.mustGet("b.example.com")
		if now := w.account(); now.URL != old.URL || now.Thumbprint != old.Thumbprint {
			t.Errorf("the account was %v and is %v", old, now)
		}
	})
}

// A CA that cannot look up accounts still has the one of a key that is registered.
func TestCAThatDoesNotLookUpAccounts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.restartThrough(onlyLookUps(w.ca.Client().Transport, func(_ int, r *http.Request) *http.Response {
			return answer(r, 400, "application/problem+json", problemJSON("malformed"))
		}))
		w.mustGet("b.example.com")
		w.account()
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

// slowEntries takes a while, so that machines that start at the same time overlap.
type slowEntries struct{ cache.Memory }

func (c *slowEntries) Get(ctx context.Context, key string) ([]byte, error) {
	time.Sleep(time.Millisecond)
	return c.Memory.Get(ctx, key)
}

func (c *slowEntries) Put(ctx context.Context, key string, data []byte) error {
	time.Sleep(7 * time.Millisecond)
	return c.Memory.Put(ctx, key, data)
}

// Machines that start on an empty cache at the same moment agree on one key.
func TestMachinesThatStartTogetherHaveOneAccount(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Cache = new(slowEntries)
		var wg sync.WaitGroup
		for range 3 {
			other := w.manager()
			other.Cache, other.Hosts = w.m.Cache, MustAllowlist("b.example.com")
			defer other.Close()
			wg.Go(func() { other.RollAccountKey(context.Background()) })
		}
		if _, err := w.get("a.example.com"); err != nil {
			t.Error(err)
		}
		wg.Wait()
		w.account()
	})
}

// A machine that has read the key, and registers, while another one replaces it.
func TestKeyThatIsReplacedWhileItRegistersMakesNoSecondAccount(t *testing.T) {
	for _, rolls := range []int{1, 2} {
		inBubble(t, func(t *testing.T, w *world) {
			w.mustGet("a.example.com")
			old := w.account()
			other := w.manager()
			defer other.Close()
			w.restartThrough(onlyLookUps(w.ca.Client().Transport, func(n int, _ *http.Request) *http.Response {
				for i := 0; n == 1 && i < rolls; i++ {
					if err := other.RollAccountKey(context.Background()); err != nil {
						t.Errorf("RollAccountKey of the other machine: %v", err)
					}
				}
				return nil
			}))
			w.mustGet("b.example.com")
			if now := w.account(); now.URL != old.URL || now.Thumbprint == old.Thumbprint {
				t.Errorf("the account was %v and is %v", old, now)
			}
			w.wantSettled()
			if err := other.Obtain(context.Background(), "c.example.com"); err != nil {
				t.Error(err)
			}
		})
	}
}
