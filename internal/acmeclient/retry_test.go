package acmeclient

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"
)

func getOrder(t *testing.T, ca *CA) error {
	t.Helper()
	_, err := ca.Client(newKey(t), testKID).GetOrder(t.Context(), testOrder)
	return err
}

func TestRetries(t *testing.T) {
	tests := []struct {
		name     string
		endpoint string
		status   int
		header   string // Retry-After
		want     int    // requests
		min, max time.Duration
	}{
		{"429 of a POST", "POST /order/1", 429, "1", 1, 0, 0},
		{"429 of a POST, a day", "POST /order/1", 429, "86400", 1, 0, 0},
		{"429 of the directory", "GET /dir", 429, "", 1, 0, 0},
		{"429 of a nonce", "HEAD /nonce", 429, "1", 1, 0, 0},
		{"500 of a POST", "POST /order/1", 500, "", 4, 1750 * time.Millisecond, 2700 * time.Millisecond},
		{"503 of the directory", "GET /dir", 503, "", 3, 750 * time.Millisecond, 1200 * time.Millisecond},
		{"503 of a nonce", "HEAD /nonce", 503, "", 4, 1750 * time.Millisecond, 2700 * time.Millisecond},
		{"503, Retry-After obeyed", "POST /order/1", 503, "10", 4, 30 * time.Second, 31 * time.Second},
		{"503, Retry-After too long", "POST /order/1", 503, "11", 1, 0, 0},
		{"503, Retry-After too long, nonce", "HEAD /nonce", 503, "86400", 1, 0, 0},
		{"503, Retry-After negative", "POST /order/1", 503, "-5", 4, 1750 * time.Millisecond, 2700 * time.Millisecond},
		{"403", "POST /order/1", 403, "", 1, 0, 0},
		{"204", "POST /order/1", 204, "", 1, 0, 0},
		{"304", "GET /dir", 304, "", 1, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCA()
				f.answers[tt.endpoint] = func(*http.Request, int) (*http.Response, error) {
					res := problem(tt.status, "aProblem")
					if tt.header != "" {
						res.Header.Set("Retry-After", tt.header)
					}
					return res, nil
				}
				begun := time.Now()
				err := getOrder(t, newTestCA(f))
				if p, ok := Problem(err); !ok || p.StatusCode != tt.status {
					t.Errorf("error %v, want status %d", err, tt.status)
				}
				f.expect(t, tt.endpoint, tt.want)
				if took := time.Since(begun); took < tt.min || took > tt.max {
					t.Errorf("took %s, want %s to %s", took, tt.min, tt.max)
				}
			})
		})
	}
}

func TestRecoversFromServerErrors(t *testing.T) {
	for _, endpoint := range []string{"GET /dir", "HEAD /nonce", "POST /order/1"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeCA()
			healthy := f.answers[endpoint]
			f.answers[endpoint] = func(req *http.Request, n int) (*http.Response, error) {
				if n <= 2 {
					return response(502, "<html>Bad Gateway"), nil
				}
				if healthy == nil {
					return response(200, ""), nil
				}
				return healthy(req, n)
			}
			if err := getOrder(t, newTestCA(f)); err != nil {
				t.Errorf("%s: %v", endpoint, err)
			}
			f.expect(t, endpoint, 3)
		})
	}
}

func TestBadNonce(t *testing.T) {
	refuse := func(when func(n int) bool) *fakeCA {
		f := newFakeCA()
		f.answers["POST /order/1"] = func(_ *http.Request, n int) (*http.Response, error) {
			if when(n) {
				return problem(400, "badNonce"), nil
			}
			return response(200, validOrder), nil
		}
		return f
	}
	t.Run("every second one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := refuse(func(n int) bool { return n%2 == 1 })
			ca := newTestCA(f)
			for range 10 {
				if err := getOrder(t, ca); err != nil {
					t.Fatal(err)
				}
			}
			f.expect(t, "POST /order/1", 20)
			f.expect(t, "HEAD /nonce", 1) // each refusal brings a fresh one
		})
	})
	t.Run("always", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := refuse(func(int) bool { return true })
			begun := time.Now()
			err := getOrder(t, newTestCA(f))
			if p, ok := Problem(err); !ok || p.StatusCode != 400 {
				t.Errorf("error %v, want the CA's refusal", err)
			}
			f.expect(t, "POST /order/1", 1+maxNonceRetries)
			if took := time.Since(begun); took > time.Second || took == 0 {
				t.Errorf("took %s", took)
			}
		})
	})
	t.Run("CA forgot all nonces", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeCA()
			ca := newTestCA(f)
			for range 30 {
				ca.nonces.push(f.issue(), time.Now())
			}
			f.restart()
			if err := getOrder(t, ca); err != nil {
				t.Fatal(err)
			}
			f.expect(t, "POST /order/1", 2)
			f.expect(t, "HEAD /nonce", 0)
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
		{"429 is not asked about", 429, "rateLimited", time.Second, 0, 1, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCA()
				f.answers["POST /order/1"] = func(*http.Request, int) (*http.Response, error) {
					return problem(tt.status, tt.typ), nil
				}
				calls := 0
				ca := New(Config{DirectoryURL: testDirectory, HTTPClient: &http.Client{Transport: f},
					RetryBackoff: func(int, *http.Request, *http.Response) time.Duration {
						calls++
						return tt.answer
					}})
				begun := time.Now()
				if err := getOrder(t, ca); err == nil {
					t.Error("no error")
				}
				if calls != tt.calls {
					t.Errorf("asked %d times, want %d", calls, tt.calls)
				}
				f.expect(t, "POST /order/1", tt.posts)
				if took := time.Since(begun); took < tt.took || took > tt.tookMax {
					t.Errorf("took %s, want %s", took, tt.took)
				}
			})
		})
	}
}

// Whatever Retry-After a CA sends with an unfinished order, the polls of x/crypto/acme
// stay at one a second at most. Unchecked, some of these make it poll without a pause.
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
				f := newFakeCA()
				f.reply("POST /order/1", 200, body, "Retry-After", value)
				f.reply("POST /authz/1", 200, body, "Retry-After", value)
				ca := newTestCA(f)
				key := newKey(t)
				wait := map[string]func(*acme.Client) error{
					"POST /order/1": func(c *acme.Client) error { _, err := c.WaitOrder(t.Context(), testOrder); return err },
					"POST /authz/1": func(c *acme.Client) error { _, err := c.WaitAuthorization(t.Context(), testAuthz); return err },
				}
				for endpoint, call := range wait {
					c := ca.Client(key, testKID)
					go call(c)
					time.Sleep(time.Minute)
					if n := f.requests(endpoint); n < 1 || n > most {
						t.Errorf("Retry-After %q, body %q: %d polls of %s in a minute, want at most %d", value, body, n, endpoint, most)
					}
				}
			})
		}
	}
}
