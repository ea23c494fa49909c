package cases

import (
	"net/http"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// B14: the reply is not an ACME directory: a captive portal, a CA's "Invalid
// ACME server URL" (win-acme/win-acme#2635), ACME v1. The error says so in a
// user's terms, not in those of a JSON decoder.
func TestWhatIsNoDirectoryIsCalledSo(t *testing.T) {
	text := func(status int, body string) func(*acmetest.Reply) {
		return func(r *acmetest.Reply) { r.Status, r.Body = status, []byte(body) }
	}
	object := func(edit func(directory map[string]any)) func(*acmetest.Reply) {
		return func(r *acmetest.Reply) { r.EditObject(edit) }
	}
	table.Run(t, "B14", func(t *T) {
		for _, tt := range []struct {
			name string
			edit func(r *acmetest.Reply)
			want string // in the error
		}{
			{"captive portal", text(200, "<!DOCTYPE html><html><head><title>Welcome</title></head></html>"), "ACME directory"},
			{"nothing", text(200, ""), "ACME directory"},
			{"refused", text(403, `{"type":"urn:ietf:params:acme:error:unauthorized","detail":"Invalid ACME server URL"}`), "Invalid ACME server URL"},
			{"ACME v1", text(200, `{"new-reg":"https://ca.example.com/r","new-cert":"https://ca.example.com/c"}`), "RFC 8555"},
			{"empty object", text(200, "{}"), "RFC 8555"},
			{"null", text(200, "null"), "RFC 8555"},
			{"no newAccount", object(func(d map[string]any) { delete(d, "newAccount") }), "newAccount"},
			{"no newNonce", object(func(d map[string]any) { delete(d, "newNonce") }), "newNonce"},
			{"meta is a string", object(func(d map[string]any) { d["meta"] = "none" }), "ACME directory"},
		} {
			t.Run(tt.name, func(t *T) {
				bubble(t, func(t *T, w *world) {
					w.edit(acmetest.Directory, tt.edit)
					_, err := w.get(host)
					if err == nil {
						return
					}
					if text := err.Error(); !strings.Contains(text, tt.want) && !strings.Contains(text, "ACME directory") {
						t.Errorf("the error does not say %q: %v", tt.want, err)
					}
				})
			})
		}
	})
}

// B15: the directory's URL has a query (win-acme/win-acme#2855, DigiCert), or
// redirects to another one (nginx/nginx-acme#77).
func TestADirectoryMayHaveAQueryOrBeRedirected(t *testing.T) {
	table.Run(t, "B15", func(t *T) {
		t.Run("query", func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.m.Client.DirectoryURL += "?action=reissue&orderId=1493149735"
				mustObtain(t, w, host)
			})
		})
		t.Run("redirect", func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.m.Client.DirectoryURL = strings.TrimSuffix(w.ca.URL, "directory")
				w.ca.Respond(acmetest.Match{Endpoint: acmetest.Unknown}, http.StatusFound, http.Header{"Location": {w.ca.URL}}, "")
				mustObtain(t, w, host)
			})
		})
	})
}
