package conformance

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// spoiler changes the replies of a CA.
type spoiler struct {
	next  http.RoundTripper
	spoil func(req *http.Request, res *http.Response)
}

func (s spoiler) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := s.next.RoundTrip(req)
	if err == nil {
		s.spoil(req, res)
	}
	return res, err
}

func setBody(res *http.Response, body string) {
	res.Body, res.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
}

// A CA that breaks a rule for all replies fails every case.
func TestJudgeSeesWhatRepliesLack(t *testing.T) {
	// The case sends a POST with an unknown nonce.
	c := testCaseOf(t, "an unknown nonce is badNonce")
	for _, test := range []struct {
		name, want string
		spoil      func(req *http.Request, res *http.Response)
	}{
		{"nothing", "", func(*http.Request, *http.Response) {}},
		{"no link", lacksIndex, func(_ *http.Request, res *http.Response) { res.Header.Del("Link") }},
		{"another link", lacksIndex, func(_ *http.Request, res *http.Response) {
			res.Header.Set("Link", `<https://a.example.com/>;rel="index"`)
		}},
		{"no nonce on errors", lacksNonce, func(_ *http.Request, res *http.Response) {
			if res.StatusCode >= 400 {
				res.Header.Del("Replay-Nonce")
			}
		}},
		{"nonce in another alphabet", "is not base64url", func(_ *http.Request, res *http.Response) {
			if res.StatusCode >= 400 {
				res.Header.Set("Replay-Nonce", "a+b")
			}
		}},
		{"another content type", lacksProblem, func(_ *http.Request, res *http.Response) {
			if res.StatusCode >= 400 {
				res.Header.Set("Content-Type", "text/plain")
			}
		}},
		{"another content type of successes", "the content type of JSON", func(_ *http.Request, res *http.Response) {
			if res.StatusCode == 201 {
				res.Header.Set("Content-Type", "text/html")
			}
		}},
		{"another status", "want 400 badNonce", func(_ *http.Request, res *http.Response) {
			if res.StatusCode == 400 {
				res.StatusCode = 403
			}
		}},
		{"another status in the problem", "the problem's status", func(_ *http.Request, res *http.Response) {
			editBody(res, `"status":400`, `"status":403`)
		}},
		{"another type", "want 400 badNonce", func(_ *http.Request, res *http.Response) {
			editBody(res, "badNonce", "malformed")
		}},
		{"a type of its own", "not one of ACME", func(_ *http.Request, res *http.Response) {
			editBody(res, errorPrefix, "urn:x:")
		}},
		{"no detail", "no detail", func(_ *http.Request, res *http.Response) { editBody(res, `"detail"`, `"text"`) }},
		{"an identifier at the top", "has an identifier", func(_ *http.Request, res *http.Response) {
			editBody(res, `"detail"`, `"identifier":{},"detail"`)
		}},
		{"Retry-After that is none", "is no time", func(_ *http.Request, res *http.Response) {
			if res.StatusCode >= 400 {
				res.Header.Set("Retry-After", "soon")
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			failures := c.judge(t, spoiled(t, test.spoil), 0, nil)
			if test.want == "" {
				if len(failures) > 0 {
					t.Errorf("a CA that is right fails: %q", failures)
				}
				return
			}
			if !strings.Contains(strings.Join(failures, "\n"), test.want) {
				t.Errorf("the failures are %q, and none says %q", failures, test.want)
			}
		})
	}
}

func TestJudgeSeesThatADeviationIsGone(t *testing.T) {
	ca := spoiled(t, func(*http.Request, *http.Response) {})
	c := testCaseOf(t, "an unknown nonce is badNonce")
	if f := c.judge(t, ca, 0, c.pebbleSays(400, "malformed", "").pebble); len(f) != 1 {
		t.Errorf("a verdict that is right again: %q", f)
	}
	if f := c.judge(t, ca, 0, c.pebbleBreaks("", lacksNonce).pebble); len(f) != 1 || !strings.Contains(f[0], "no longer") {
		t.Errorf("a reply that is right again: %q", f)
	}
	noLink := spoiled(t, func(_ *http.Request, res *http.Response) { res.Header.Del("Link") })
	if f := c.judge(t, noLink, 0, c.pebbleBreaks("", lacksIndex).pebble); len(f) != 0 {
		t.Errorf("a deviation that is expected: %q", f)
	}
	if f := c.judge(t, noLink, 0, c.pebbleSays(400, "badNonce", "").pebble); len(f) == 0 {
		t.Error("a deviation that is not expected passes")
	}
}

// Pebble's deviations do not excuse another CA: Run has a verdict for each.
func TestAnotherVerdictFails(t *testing.T) {
	c := testCaseOf(t, "a nonce that is not base64url is malformed")
	ca := spoiled(t, func(_ *http.Request, res *http.Response) { editBody(res, "malformed", "badNonce") })
	if f := c.judge(t, ca, 0, nil); len(f) == 0 {
		t.Error("the verdict of Pebble passes")
	}
	if f := c.judge(t, ca, 0, c.pebble); len(f) != 0 {
		t.Errorf("the verdict of Pebble fails: %q", f)
	}
}

func testCaseOf(t *testing.T, rule string) testCase {
	t.Helper()
	for _, c := range table() {
		if c.rule == rule {
			return c
		}
	}
	t.Fatalf("there is no case %q", rule)
	return testCase{}
}

// spoiled returns a CA with changed replies.
func spoiled(t *testing.T, spoil func(req *http.Request, res *http.Response)) *CA {
	t.Helper()
	s := acmetest.NewMemoryServer()
	t.Cleanup(s.Close)
	return &CA{Directory: s.URL, Client: &http.Client{Transport: spoiler{s.Client().Transport, spoil}}}
}

// editBody replaces text in the body of an error.
func editBody(res *http.Response, before, after string) {
	if res.StatusCode < 400 {
		return
	}
	body, _ := io.ReadAll(res.Body) // a truncated body fails the checks
	setBody(res, strings.Replace(string(body), before, after, 1))
}
