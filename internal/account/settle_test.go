package account

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
)

// reply answers a request in the CA's place; nil loses the request.
type reply func(r *http.Request) *http.Response

func problemReply(status int, kind string) reply {
	return func(r *http.Request) *http.Response { return problem(r, status, kind) }
}

func plainReply(status int, contentType, body string) reply {
	return func(r *http.Request) *http.Response { return answer(r, status, contentType, body) }
}

func lost(*http.Request) *http.Response { return nil }

// Only the CA's own refusal of every request ends a change; whatever the answer
// is, no key is lost that the CA knows or may know.
func TestWhatEndsAKeyChange(t *testing.T) {
	const html = "text/html"
	tests := []struct {
		name    string
		replies []reply // to the change, in turn; the last one repeats
		made    bool    // by the CA, all the same
		ended   bool
	}{
		{name: "a problem", replies: []reply{problemReply(403, "unauthorized")}, ended: true},
		{name: "malformed", replies: []reply{problemReply(400, "malformed")}, ended: true},
		{name: "a problem, but made", replies: []reply{problemReply(403, "unauthorized")}, made: true},
		{name: "a problem after a 504", replies: []reply{plainReply(504, html, "late"), problemReply(403, "unauthorized")}},
		{name: "a problem after no answer", replies: []reply{lost, problemReply(400, "malformed")}},
		{name: "a bad nonce", replies: []reply{problemReply(400, "badNonce")}},
		{name: "a rate limit", replies: []reply{problemReply(429, "rateLimited")}},
		{name: "a rate limit that is a 403", replies: []reply{problemReply(403, "rateLimited")}},
		{name: "an error of the CA", replies: []reply{problemReply(500, "serverInternal")}},
		{name: "an error of the CA that is a 400", replies: []reply{problemReply(400, "serverInternal")}},
		{name: "the new key in use", replies: []reply{problemReply(409, "malformed")}},
		{name: "a request that took too long", replies: []reply{problemReply(408, "malformed")}},
		{name: "a proxy's 403", replies: []reply{plainReply(403, html, "<h1>Forbidden</h1>")}},
		{name: "a proxy's 404 in JSON", replies: []reply{plainReply(404, "application/json", `{"type":"about:blank","status":404}`)}},
		{name: "a portal's 200", replies: []reply{plainReply(200, html, "<h1>Log in</h1>")}},
		{name: "a portal's redirect", replies: []reply{plainReply(307, html, "")}},
		{name: "no content", replies: []reply{plainReply(204, html, "")}},
		{name: "no content, but made", replies: []reply{plainReply(204, html, "")}, made: true},
		{name: "garbage, but made", replies: []reply{plainReply(200, html, "\x00")}, made: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				base := s.ca.Client().Transport
				var on atomic.Bool
				var n atomic.Int32
				s.restartThrough(roundTripper(func(r *http.Request) (*http.Response, error) {
					if r.URL.Path != "/key-change" || !on.Load() {
						return base.RoundTrip(r)
					}
					if tt.made {
						if res, err := base.RoundTrip(r); err == nil {
							res.Body.Close()
						}
					}
					if res := tt.replies[min(int(n.Add(1)), len(tt.replies))-1](r); res != nil {
						return res, nil
					}
					return nil, io.ErrUnexpectedEOF
				}))
				s.mustUse()
				old := s.account()
				on.Store(true)
				err := s.m.ChangeKey(t.Context())
				if (err == nil) != tt.made {
					t.Errorf("ChangeKey: %v, but the CA made the change: %v", err, tt.made)
				}
				if got := s.keyIn(currentEntry); got != s.account().Thumbprint {
					t.Errorf("the store has the key %q, the CA %q", got, s.account().Thumbprint)
				}
				if next := s.keyIn(nextEntry); (next == "") != (tt.ended || tt.made) {
					t.Errorf("the next key is %q after: %v", next, err)
				}
				s.mustUse()
				on.Store(false)
				s.mustChange()
				s.mustUse()
				s.wantSettled()
				s.wantChanged(old, true)
			})
		})
	}
}

// While the outcome of a change is unknown this process remembers both keys,
// whatever becomes of the store.
func TestKeysOfAnOpenChangeOutliveTheStore(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(e *entries)
	}{
		{"nothing happens", func(*entries) {}},
		{"the next key is evicted", func(e *entries) { e.clear(nextEntry) }},
		{"the current key is evicted", func(e *entries) { e.clear(currentEntry) }},
		{"both are evicted", func(e *entries) { e.clear(currentEntry, nextEntry) }},
		{"the next key is damaged", func(e *entries) { e.set(nextEntry, []byte("garbage")) }},
	}
	timeout := plainReply(504, "text/html", "late")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for what, again := range map[string]reply{"not asked again": nil, "asked again": timeout, "refused when asked again": problemReply(403, "unauthorized")} {
				atSite(t, func(t *testing.T, s *site) {
					base := s.ca.Client().Transport
					var late *http.Request // the first one, which the CA gets after all
					reply := timeout       // nil: the CA's own
					s.restartThrough(roundTripper(func(r *http.Request) (*http.Response, error) {
						if r.URL.Path != "/key-change" || reply == nil {
							return base.RoundTrip(r)
						}
						if late == nil {
							body, err := io.ReadAll(r.Body)
							if err != nil {
								return nil, err
							}
							late = r.Clone(context.Background())
							late.Body = io.NopCloser(bytes.NewReader(body))
						}
						return reply(r), nil
					}))
					s.mustUse()
					old := s.account()
					if err := s.m.ChangeKey(t.Context()); err == nil || !strings.Contains(err.Error(), "unknown whether") {
						t.Fatalf("ChangeKey: %v, want that the outcome is unknown", err)
					}
					next := s.keyIn(nextEntry)
					tt.spoil(s.store)
					if reply = again; again != nil { // for the same key
						s.m.ChangeKey(t.Context())
					}
					res, err := base.RoundTrip(late)
					if err != nil {
						t.Fatal(err)
					}
					res.Body.Close()
					s.wantChanged(old, true)
					reply = nil
					s.mustUse()
					if got := s.account().Thumbprint; got != next || s.keyIn(currentEntry) != next {
						t.Errorf("%s: the account has the key %s, want %s, in its place", what, got, next)
					}
					s.store.clear(nextEntry) // one that is damaged stays
					s.mustChange()
					s.wantSettled()
				})
			}
		})
	}
}

// A next key that is not this machine's is neither overwritten nor deleted.
func TestNextKeyOfAnotherMachineStays(t *testing.T) {
	t.Run("before the CA is asked", func(t *testing.T) {
		atSite(t, func(t *testing.T, s *site) {
			s.mustUse()
			theirs := encoded(t, newKey(t))
			s.store.hook(func(name string) error {
				if name == nextEntry && s.store.data(name) != nil {
					return s.store.set(name, theirs) // right after ours
				}
				return nil
			}, nil)
			if err := s.m.ChangeKey(t.Context()); err == nil || !strings.Contains(err.Error(), "was not asked") {
				t.Errorf("ChangeKey: %v", err)
			}
			if !bytes.Equal(s.store.data(nextEntry), theirs) || s.ca.Count(acmetest.KeyChange) != 0 {
				t.Error("the other machine's key is gone, or the CA was asked")
			}
		})
	})
	t.Run("when the CA refuses ours", func(t *testing.T) {
		atSite(t, func(t *testing.T, s *site) {
			theirs := encoded(t, newKey(t))
			base := s.ca.Client().Transport
			s.restartThrough(roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/key-change" {
					return problem(r, 403, "unauthorized"), s.store.set(nextEntry, theirs)
				}
				return base.RoundTrip(r)
			}))
			s.mustUse()
			if err := s.m.ChangeKey(t.Context()); err == nil {
				t.Error("ChangeKey succeeded")
			}
			if !bytes.Equal(s.store.data(nextEntry), theirs) {
				t.Error("the other machine's key is gone")
			}
		})
	})
}

// onlyLookUps calls f for requests that look up an account, in turn; where f
// returns nil the CA answers.
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

// noAccount answers the first look-ups, up to last, by saying that there is no
// account.
func noAccount(first, last int) func(n int, r *http.Request) *http.Response {
	return func(n int, r *http.Request) *http.Response {
		if n < first || n > last {
			return nil
		}
		return problem(r, 400, "accountDoesNotExist")
	}
}

// always gives the same answer to every look-up.
func always(f reply) func(n int, r *http.Request) *http.Response {
	return func(_ int, r *http.Request) *http.Response { return f(r) }
}

// Answers to the look-up that are no answer, or are out of date, make no
// account.
func TestAnswersToTheLookUpMakeNoSecondAccount(t *testing.T) {
	tests := []struct {
		name   string
		answer func(n int, r *http.Request) *http.Response
		works  bool // at once
	}{
		{"the new key is not known yet", noAccount(2, 2), true},
		{"no key is known yet", noAccount(1, 4), true},
		{"nothing named", always(plainReply(200, "application/json", `{"status":"valid"}`)), false},
		{"garbage", always(plainReply(200, "text/html", "<h1>")), false},
		{"a proxy's 404", always(plainReply(404, "text/html", "<h1>")), false},
		{"a proxy's 400 with a problem", always(plainReply(400, "application/problem+json", `{"type":"about:blank"}`)), false},
		{"a 503", always(plainReply(503, "text/html", "<h1>")), false},
		{"a rate limit", always(problemReply(429, "rateLimited")), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				s.mustUse()
				s.crashes(&crash{at: "put " + currentEntry}) // the CA has the new key, the store has it as the next one
				s.m.ChangeKey(t.Context())
				old := s.account()
				s.restartThrough(onlyLookUps(s.ca.Client().Transport, tt.answer))
				if err := s.m.use(t.Context()); (err == nil) != tt.works {
					t.Errorf("the account is used: %v", err)
				}
				s.wantChanged(old, false)
				if s.keyIn(currentEntry) != old.Thumbprint && s.keyIn(nextEntry) != old.Thumbprint {
					t.Error("the account's key is lost")
				}
				s.restart(s.setup())
				s.mustUse()
				s.wantSettled()
			})
		})
	}
}

// A CA that says of both keys that it does not know them may be mistaken.
func TestKeysThatTheCADoesNotKnowAreAskedAboutTwice(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		s.mustUse()
		old := s.account()
		s.crashes(&crash{at: "ask /key-change"})
		s.m.ChangeKey(t.Context())
		s.restartThrough(onlyLookUps(s.ca.Client().Transport, noAccount(1, 2)))
		s.mustUse()
		s.wantChanged(old, false)
	})
}

// A CA that cannot look up accounts still has the one of a key that is
// registered.
func TestCAThatDoesNotLookUpAccounts(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		s.mustUse()
		old := s.account()
		s.restartThrough(onlyLookUps(s.ca.Client().Transport, always(problemReply(400, "malformed"))))
		s.mustUse()
		s.wantChanged(old, false)
	})
}

// slowEntries take a while, so that machines that start at the same time
// overlap.
type slowEntries struct{ entries }

func (e *slowEntries) Get(ctx context.Context, name string) ([]byte, error) {
	time.Sleep(time.Millisecond)
	return e.entries.Get(ctx, name)
}

func (e *slowEntries) Put(ctx context.Context, name string, data []byte) error {
	time.Sleep(7 * time.Millisecond)
	return e.entries.Put(ctx, name, data)
}

// Machines that start on an empty store at the same moment agree on one key.
func TestMachinesThatStartTogetherHaveOneAccount(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		set := s.setup()
		set.store = new(slowEntries)
		s.restart(set)
		var wg sync.WaitGroup
		for range 3 {
			other := s.boot(set)
			wg.Go(func() { other.ChangeKey(t.Context()) }) // one of them may see that it is not alone
		}
		s.mustUse()
		wg.Wait()
		s.account()
	})
}

// A machine that has read the key, and registers, while another one replaces
// it.
func TestKeyThatIsReplacedWhileItRegistersMakesNoSecondAccount(t *testing.T) {
	for _, changes := range []int{1, 2} {
		atSite(t, func(t *testing.T, s *site) {
			s.mustUse()
			old := s.account()
			other := s.boot(s.setup())
			s.restartThrough(onlyLookUps(s.ca.Client().Transport, func(n int, _ *http.Request) *http.Response {
				for i := 0; n == 1 && i < changes; i++ {
					if err := other.ChangeKey(t.Context()); err != nil {
						t.Errorf("ChangeKey of the other machine: %v", err)
					}
				}
				return nil
			}))
			s.mustUse()
			s.wantChanged(old, true)
			s.wantSettled()
			if err := other.use(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
