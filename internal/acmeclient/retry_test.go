package acmeclient

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// What the CA may have done is not asked for again if that could do harm.
func TestWhatIsNotSentAgainAfterALostResponse(t *testing.T) {
	for p, want := range map[purpose]int{
		forFinalize: 0, forKeyChange: 0, forRevoke: 0,
		forOrder: 1, forDirectory: 1, forNonce: 1, forUnsigned: 1,
		forAccount: 2, forLookup: 2, forObject: 2, forChain: 2, forChallenge: 2, forOther: 2,
	} {
		for f, want := range map[fault]int{faultLost: want, faultLate: min(want, 1)} {
			var tr tries
			n := 0
			for n < 100 && tr.wait(p, f, nil) > 0 {
				n++
			}
			if n != want {
				t.Errorf("purpose %d, fault %d: sent again %d times, want %d", p, f, n, want)
			}
		}
	}
}

func TestRetries(t *testing.T) {
	tests := []struct {
		name     string
		endpoint acmetest.Endpoint
		status   int
		header   string // Retry-After
		want     int    // requests
		min, max time.Duration
	}{
		{"429 of a POST", acmetest.Order, 429, "1", 2, time.Second, 2 * time.Second},
		{"429 of a POST, a day", acmetest.Order, 429, "86400", 1, 0, 0},
		{"429 of the directory", acmetest.Directory, 429, "", 2, 5 * time.Second, 10 * time.Second},
		{"429, Retry-After too long", acmetest.Order, 429, "11", 1, 0, 0},
		{"429 of a POST, no Retry-After", acmetest.Order, 429, "", 2, 5 * time.Second, 10 * time.Second},
		{"429 of a nonce", acmetest.NewNonce, 429, "1", 2, time.Second, 2 * time.Second},
		{"500 of a POST", acmetest.Order, 500, "", 4, 1750 * time.Millisecond, 2700 * time.Millisecond},
		{"503 of the directory", acmetest.Directory, 503, "", 3, 750 * time.Millisecond, 1200 * time.Millisecond},
		{"503 of a nonce", acmetest.NewNonce, 503, "", 4, 1750 * time.Millisecond, 2700 * time.Millisecond},
		{"503, Retry-After obeyed", acmetest.Order, 503, "10", 4, 30 * time.Second, 31 * time.Second},
		{"503, Retry-After too long", acmetest.Order, 503, "11", 1, 0, 0},
		{"503, Retry-After too long, nonce", acmetest.NewNonce, 503, "86400", 1, 0, 0},
		{"503, Retry-After negative", acmetest.Order, 503, "-5", 4, 1750 * time.Millisecond, 2700 * time.Millisecond},
		{"403", acmetest.Order, 403, "", 1, 0, 0},
		{"404", acmetest.Order, 404, "", 1 + maxMissingRetries, 7 * time.Second, 12 * time.Second},
		{"404 of the directory", acmetest.Directory, 404, "", 1, 0, 0},
		{"304", acmetest.Directory, 304, "", 1, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				h := http.Header{}
				if tt.header != "" {
					h.Set("Retry-After", tt.header)
				}
				if tt.status >= 400 {
					s.Status(at(tt.endpoint), tt.status, h, acmetest.Problem{Type: "aProblem"})
				} else {
					s.Respond(at(tt.endpoint), tt.status, h, "")
				}
				begun := time.Now()
				err := s.getOrder(t, s.ca(s.Client()))
				if p, ok := Problem(err); !ok || p.StatusCode != tt.status {
					t.Errorf("error %v, want status %d", err, tt.status)
				}
				s.expect(t, tt.endpoint, tt.want)
				if took := time.Since(begun); took < tt.min || took > tt.max {
					t.Errorf("took %s, want %s to %s", took, tt.min, tt.max)
				}
			})
		})
	}
}

func TestRecoversFromServerErrors(t *testing.T) {
	for _, endpoint := range []acmetest.Endpoint{acmetest.Directory, acmetest.NewNonce, acmetest.Order} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			s.Respond(acmetest.Match{Endpoint: endpoint, Count: 2}, 502, nil, "<html>Bad Gateway")
			if err := s.getOrder(t, s.ca(s.Client())); err != nil {
				t.Errorf("%s: %v", endpoint, err)
			}
			s.expect(t, endpoint, 3)
		})
	}
}

func TestBadNonce(t *testing.T) {
	t.Run("every second one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			ca := s.ca(s.Client())
			for range 10 {
				s.Respond(acmetest.Match{Endpoint: acmetest.Order, Count: 1}, 400, nil, badNonce)
				if err := s.getOrder(t, ca); err != nil {
					t.Fatal(err)
				}
			}
			s.expect(t, acmetest.Order, 20)
			s.expect(t, acmetest.NewNonce, 1) // each refusal brings a fresh one
		})
	})
	t.Run("refusals bring none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			s.Respond(acmetest.Match{Endpoint: acmetest.Order, Count: 2}, 400, http.Header{replayNonce: nil}, badNonce)
			if err := s.getOrder(t, s.ca(s.Client())); err != nil {
				t.Fatal(err)
			}
			s.expect(t, acmetest.Order, 3)
			s.expect(t, acmetest.NewNonce, 3)
		})
	})
	t.Run("always", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			s.BadNonceRate(1)
			begun := time.Now()
			err := s.getOrder(t, s.ca(s.Client()))
			if p, ok := Problem(err); !ok || p.StatusCode != 400 {
				t.Errorf("error %v, want the CA's refusal", err)
			}
			s.expect(t, acmetest.Order, 1+maxNonceRetries)
			if took := time.Since(begun); took > time.Second || took == 0 {
				t.Errorf("took %s", took)
			}
		})
	})
	t.Run("CA forgot all nonces", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			ca := s.ca(s.Client())
			const pooled = 30
			for range pooled {
				res, err := s.Client().Head(s.directory.NonceURL)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				ca.nonces.push(res.Header.Get(replayNonce), time.Now())
			}
			s.ForgetNonces()
			if err := s.getOrder(t, ca); err != nil {
				t.Fatal(err)
			}
			s.expect(t, acmetest.Order, 2)
			s.expect(t, acmetest.NewNonce, pooled) // those above
			_, fresh := ca.nonces.pop(time.Now())
			if stale, left := ca.nonces.pop(time.Now()); !fresh || left {
				t.Errorf("fresh nonce kept: %t, stale one kept: %q", fresh, stale)
			}
		})
	})
}

func TestUsersRetryBackoff(t *testing.T) {
	tests := []struct {
		name          string
		status        int
		typ           string
		answer        time.Duration
		calls, posts  int
		took, tookMax time.Duration
	}{
		{"5xx", 500, "serverInternal", 2 * time.Second, 10, 11, 20 * time.Second, 20 * time.Second},
		{"too long", 500, "serverInternal", time.Hour, 10, 11, 10 * time.Minute, 10 * time.Minute},
		{"badNonce", 400, "badNonce", time.Millisecond, 10, 11, 10 * time.Millisecond, 10 * time.Millisecond},
		{"gives up", 500, "serverInternal", -1, 1, 1, 0, 0},
		{"429 is not asked about", 429, "rateLimited", time.Second, 0, 2, 5 * time.Second, 10 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				s.Status(at(acmetest.Order), tt.status, nil, acmetest.Problem{Type: tt.typ})
				calls := 0
				ca := New(Config{DirectoryURL: s.URL, HTTPClient: s.Client(),
					RetryBackoff: func(int, *http.Request, *http.Response) time.Duration {
						calls++
						return tt.answer
					}})
				begun := time.Now()
				if err := s.getOrder(t, ca); err == nil {
					t.Error("no error")
				}
				if calls != tt.calls {
					t.Errorf("asked %d times, want %d", calls, tt.calls)
				}
				s.expect(t, acmetest.Order, tt.posts)
				if took := time.Since(begun); took < tt.took || took > tt.tookMax {
					t.Errorf("took %s, want %s", took, tt.took)
				}
			})
		})
	}
}

// Whatever Retry-After a CA sends with a pending order, x/crypto/acme polls at
// most once a second. Unchecked, some of these make it poll without a pause.
func TestPollingNeverSpins(t *testing.T) {
	values := map[string]int{ // most polls in a minute
		"": 61, "0": 61, "-1": 61, "-86400": 61, "soon": 61, "0.5": 61, "1.5": 61, "1": 61, "+3": 61,
		"Thu, 01 Jan 1970 00:00:00 GMT": 61,
		"Thu, 01 Jan 2099 00:00:00 GMT": 1, "99999999999999999999": 1, "86400": 1, "30": 3,
	}
	bodies := []string{pendingOrder, "", "<html>", `{"status":`}
	for value, most := range values {
		for _, body := range bodies {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				h := http.Header{"Retry-After": {value}}
				// They end at some point, or a failing test would never end.
				s.Respond(acmetest.Match{Endpoint: acmetest.Order, Count: 200}, 200, h, body)
				s.Respond(acmetest.Match{Endpoint: acmetest.Authorization, Count: 200}, 200, h, body)
				ca := s.ca(s.Client())
				wait := map[acmetest.Endpoint]func(*acme.Client) error{
					acmetest.Order: func(c *acme.Client) error { _, err := c.WaitOrder(t.Context(), s.order); return err },
					acmetest.Authorization: func(c *acme.Client) error {
						_, err := c.WaitAuthorization(t.Context(), s.authz)
						return err
					},
				}
				for _, call := range wait {
					c := s.client(ca)
					go call(c)
				}
				time.Sleep(time.Minute)
				for endpoint := range wait {
					if n := s.Count(endpoint); n < 1 || n > most {
						t.Errorf("Retry-After %q, body %q: %d polls of %s in a minute, want at most %d", value, body, n, endpoint, most)
					}
				}
			})
		}
	}
}

// The same with the CA's own orders instead of made-up replies.
func TestPollingOfARealOrderNeverSpins(t *testing.T) {
	for value, most := range map[string]int{"-1": 61, "soon": 61, "30": 3, "86400": 1} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			s.RetryAfter(acmetest.Any, value)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := s.client(s.ca(s.through(s.order, func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
				if s.Count(acmetest.Order) > 200 {
					cancel() // or a failure of this test would never end
				}
				return next.RoundTrip(req)
			})))
			go c.WaitOrder(ctx, s.order)
			time.Sleep(time.Minute)
			if n := s.Count(acmetest.Order); n < 1 || n > most {
				t.Errorf("Retry-After %q: %d polls in a minute, want at most %d", value, n, most)
			}
		})
	}
}
