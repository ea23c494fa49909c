package certmgr_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

// An error says after a restart what it said before, and who saw it.
func TestErrorsSurviveARestartUnchanged(t *testing.T) {
	link := "https://ca.example/unpause?jwt=" + strings.Repeat("eyJhbGci", 90)
	for name, tt := range map[string]struct {
		set  func(w *world)
		kind error
		url  string // of what failed, as its path begins
		key  string // of the record in the cache

		restarts int // after which a restart earns no attempt
	}{
		"challenge": {func(w *world) {
			w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "nobody home\nat all"})
		}, certmgr.ErrBackoff, "/authorization/", "a.example.com+failure", 2},
		"limit": {func(w *world) {
			w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusTooManyRequests, http.Header{"Retry-After": {"300"}},
				acmetest.Problem{Type: "rateLimited", Detail: "too many certificates for a.example.com; see " + link})
		}, certmgr.ErrBackoff, "/new-order", "a.example.com+failure", 0},
		"CA": {func(w *world) {
			w.ca.Status(acmetest.Match{Endpoint: acmetest.NewAccount}, http.StatusServiceUnavailable, http.Header{"Retry-After": {"300"}},
				acmetest.Problem{Type: "serverInternal", Detail: "closed"})
		}, certmgr.ErrCAUnavailable, "/new-account", "acme_ca+failure", 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				tt.set(w)
				_, first := w.get("a.example.com")
				for range tt.restarts {
					w.restart()
					_, first = w.get("a.example.com")
				}
				before, ok := errors.AsType[*certmgr.IssuanceError](first)
				if !ok || !strings.HasPrefix(before.URL, strings.TrimSuffix(w.ca.URL, "/directory")+tt.url) || !strings.Contains(before.Hint(), tt.key) {
					t.Fatalf("%#v", before)
				}
				short := w.wantErr("a.example.com", tt.kind).Error()
				w.restart()
				err := w.wantErr("a.example.com", tt.kind)
				if at := strings.Index(short, "; next attempt "); at < 0 || !strings.HasPrefix(err.Error(), short[:at+1]) || len(short) > 200 { // another record may count for less long
					t.Errorf("%s\nbecomes\n%s", short, err)
				}
				full := certmgr.InFull(err).Error()
				if cause := text.Of(before.Err); !strings.Contains(full, cause+" (seen by ") || strings.Count(full, cause) > 1 {
					t.Errorf("%s\nbecomes\n%s", cause, full)
				}
				if strings.Count(full, "certmgr: ") != 1 || strings.Count(full, "seen by") != 1 || strings.Contains(full, `\n`) {
					t.Errorf("doubled, or not one line: %s", full)
				}
				if after, ok := errors.AsType[*certmgr.IssuanceError](err); ok && (after.URL != before.URL || after.Hint() != before.Hint()) {
					t.Errorf("%q, %q become %q, %q", before.URL, before.Hint(), after.URL, after.Hint())
				}
				was, is := text.Problems(before.Err), text.Problems(err)
				if p := (*acme.Error)(nil); len(is) == 0 || is[len(is)-1].Detail != text.Flat(was[len(was)-1].Detail) {
					t.Errorf("problem %v, want %v", append(is, p)[0], was)
				}
				if e := w.events.of(audit.BackoffRestored); tt.kind == certmgr.ErrBackoff && (len(e) != 1 || !strings.Contains(e[0].String(), before.Hint()[:20])) {
					t.Errorf("events %v", e)
				}
				if name == "limit" && (!strings.Contains(full, link) || strings.Contains(short, "jwt")) {
					t.Errorf("the link is not whole: %s\n%s", full, short)
				}
			})
		})
	}
}
