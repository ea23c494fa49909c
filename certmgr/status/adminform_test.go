package status_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nostall/nostall/certmgr/status"
)

func TestAdminRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, alice)
		d.m.Hosts.Add("*.example.org")
		long := strings.Repeat("a", 1<<20)
		for _, tt := range []struct {
			form string
			want int
			says string
		}{
			{"", 400, "action must be one of"},
			{"action=", 400, "action must be one of"},
			{"action=delete&host=a.example.com", 400, "action must be one of"},
			{"action=revoke&host=a.example.com&reason=superseded&confirm=a.example.com", 400, "action must be one of retry, renew, reload"},
			{"action=retry", 400, "no host"},
			{"action=retry&host=+", 400, "no host"},
			{"action=retry&action=renew&host=a.example.com", 400, "more than one action"},
			{"action=retry&host=a.example.com&host=b.example.com", 400, "more than one host"},
			{"action=retry&host=" + strings.Repeat("a", 254), 400, "more than 253 bytes"},
			{"action=retry&host=a%00.example.com", 400, "cannot be shown"},
			{"action=retry&host=a%0d%0aSet-Cookie:x", 400, "cannot be shown"},
			{"action=retry&host=192.0.2.1:443", 400, "192.0.2.1"},
			{"action=retry&host=%zz", 400, "not well formed"},
			{"action=retry&host=" + long, 413, "more than 4096 bytes"},
			{"x=" + long + "&action=retry&host=a.example.com", 413, "more than 4096 bytes"},
			{"action=retry&host=other.example.net", 404, "not allowed"},
			{"action=retry&host=new.example.org", 404, "not allowed"},
			{"action=renew&host=*.example.org", 400, ""},
			{"action=renew&host=%3Cscript%3Ealert(1)%3C/script%3E", 400, ""},
		} {
			w := d.post(tt.form, "application/json")
			if w.Code != tt.want || !strings.Contains(w.Body.String(), tt.says) {
				t.Errorf("%.60s: %d %s, want %d", tt.form, w.Code, w.Body, tt.want)
			}
			if w.Body.Len() > 2048 || strings.ContainsAny(w.Body.String(), "<>\r\x00") || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%.60s: the answer is not bounded and escaped JSON: %.200s", tt.form, w.Body)
			}
			if page := d.post(tt.form, browser); page.Code != tt.want || strings.Contains(page.Body.String(), "<script>") || page.Body.Len() > 30_000 {
				t.Errorf("%.60s in a browser: %d, %d bytes", tt.form, page.Code, page.Body.Len())
			}
		}
		if n := len(d.ca.Orders()); n > 0 {
			t.Errorf("%d orders were placed", n)
		}
		for _, kind := range []string{"", "multipart/form-data; boundary=x", "text/plain", "application/json", "nonsense;;"} {
			r := postOf("action=reload", "*/*")
			r.Header.Set("Content-Type", kind)
			if w := serve(d.handler, r); w.Code != http.StatusUnsupportedMediaType {
				t.Errorf("Content-Type %q: %d", kind, w.Code)
			}
		}
		// What a link could hold does nothing.
		r := httptest.NewRequest(http.MethodPost, "/?action=reload", strings.NewReader(""))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if w := serve(d.handler, r); w.Code != 400 {
			t.Errorf("an action in the URL: %d", w.Code)
		}
		d.m.Close()
		if code, _ := d.postJSON("action=retry&host=a.example.com"); code != http.StatusServiceUnavailable {
			t.Errorf("after Close: %d", code)
		}
	})
}

func TestAdminRevokesOnlyWhatIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, alice, status.AllowRevoke())
		for form, says := range map[string]string{
			"action=revoke&host=a.example.com&reason=superseded":                          "repeat the host's name",
			"action=revoke&host=a.example.com&reason=superseded&confirm=b.example.com":    "repeat the host's name",
			"action=revoke&host=a.example.com&confirm=a.example.com":                      "reason must be one of",
			"action=revoke&host=a.example.com&confirm=a.example.com&reason=removeFromCRL": "reason must be one of",
		} {
			if code, a := d.postJSON(form); code != 400 || !strings.Contains(a["error"].(string), says) {
				t.Errorf("%s: %d %v", form, code, a)
			}
		}
	})
}
