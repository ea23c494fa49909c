package cases

import (
	"net/http"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// B44: newNonce is unusual: without a nonce, 405 with one as in old CAs
// (letsencrypt/acme-spec#150), 404 for HEAD (go-acme/lego#2512). A nonce is
// used from any reply; without one, the error says what failed.
func TestAnOddNewNonceIsUsedOrNamed(t *testing.T) {
	table.Run(t, "B44", func(t *T) {
		for _, tt := range []struct {
			name string
			edit func(r *acmetest.Reply)
			want string // in the error; empty means that there is none
		}{
			{"204", func(r *acmetest.Reply) { r.Status = http.StatusNoContent }, ""},
			{"405 with a nonce", func(r *acmetest.Reply) { r.Status = http.StatusMethodNotAllowed }, ""},
			{"no nonce", func(r *acmetest.Reply) { r.Header.Del("Replay-Nonce") }, "nonce"},
			{"405", func(r *acmetest.Reply) { r.Status = http.StatusMethodNotAllowed; r.Header.Del("Replay-Nonce") }, "405"},
			{"404", func(r *acmetest.Reply) { r.Status = http.StatusNotFound; r.Header.Del("Replay-Nonce") }, "new-nonce"},
			{"nonce twice", func(r *acmetest.Reply) { r.Header.Add("Replay-Nonce", r.Header.Get("Replay-Nonce")) }, ""},
		} {
			t.Run(tt.name, func(t *T) {
				bubble(t, func(t *T, w *world) {
					w.edit(acmetest.NewNonce, tt.edit)
					_, err := w.get(host)
					switch {
					case tt.want == "" && err != nil:
						t.Error(err)
					case tt.want != "" && err == nil:
						t.Error("a certificate without a nonce")
					case err != nil && !strings.Contains(err.Error(), tt.want):
						t.Errorf("the error does not say %q: %v", tt.want, err)
					}
				})
			})
		}
		// A refusal without a fresh nonce (nginx/nginx-acme#193,
		// hashicorp/vault#27528) is shown as it is.
		t.Run("refusal without a nonce", func(t *T) {
			bubble(t, func(t *T, w *world) {
				header := http.Header{"Content-Type": {"application/problem+json"}, "Replay-Nonce": nil}
				w.ca.Respond(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusForbidden, header,
					`{"type":"urn:ietf:params:acme:error:rejectedIdentifier","status":403,"detail":"not for this name"}`)
				_, err := w.get(host)
				if err == nil || !strings.Contains(err.Error(), "not for this name") {
					t.Errorf("the error lacks the CA's reason: %v", err)
				}
			})
		})
	})
}
