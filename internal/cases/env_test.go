package cases

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// B61: nothing is left to authorize. Some CAs then send null instead of the
// list (ansible-collections/community.crypto#1075, Telia). Names that were
// validated by other means have challenges without a token, or none
// (unixcharles/acme-client#234, polymind-inc/acmebot#691).
func TestNothingLeftToAuthorizeIsFine(t *testing.T) {
	noList := func(w *world) {
		for _, e := range []acmetest.Endpoint{acmetest.NewOrder, acmetest.Order, acmetest.Finalize} {
			w.edit(e, func(r *acmetest.Reply) {
				r.EditObject(func(order map[string]any) {
					if order["status"] != "pending" {
						order["authorizations"] = nil
					}
				})
			})
		}
	}
	valid := func(edit func(authz map[string]any)) func(*world) {
		return func(w *world) {
			w.edit(acmetest.Authorization, func(r *acmetest.Reply) {
				r.EditObject(func(authz map[string]any) {
					if authz["status"] == "valid" {
						edit(authz)
					}
				})
			})
		}
	}
	for _, tt := range []struct {
		name  string
		first bool // the first order for the name, whose authorization is pending
		set   func(w *world)
	}{
		{"no list once ready", true, noList},
		{"no list at once", false, noList},
		{"no challenges", false, valid(func(authz map[string]any) { delete(authz, "challenges") })},
		{"no token", false, valid(func(authz map[string]any) {
			authz["challenges"] = []any{map[string]any{"type": "dns-01", "status": "valid", "url": "https://ca.example.com/c/1"}}
		})},
	} {
		table.Run(t, "B61/"+tt.name, func(t *T) {
			reuse := func(ca *acmetest.Server) { ca.ReuseAuthorizations = !tt.first }
			bubbleCA(t, reuse, func(t *T, w *world) {
				if !tt.first {
					mustObtain(t, w, host)
				}
				before, challenges := w.issued(), w.ca.Count(acmetest.Challenge)
				tt.set(w)
				if err := w.m.Renew(t.Context(), host); err != nil || w.issued() != before+1 {
					t.Errorf("%d certificates issued, error %v", w.issued()-before, err)
				}
				if n := w.ca.Count(acmetest.Challenge) - challenges; !tt.first && n > 0 {
					t.Errorf("%d requests about challenges, although the authorization was valid", n)
				}
			})
		})
	}
}

// B61: unknown challenge types precede the known ones; or there are only
// unknown ones, and the error lists them.
func TestUnknownChallengesArePassedOver(t *testing.T) {
	table.Run(t, "B61/unknown types", func(t *T) {
		bubble(t, func(t *T, w *world) {
			w.editChallenges(func(list []any) []any {
				return append([]any{
					map[string]any{"type": "dns-persist-01", "status": "pending", "url": "https://ca.example.com/c/1", "issuer-domain-names": []string{"ca.example.com"}},
					map[string]any{"type": "tls-sni-02", "status": "pending", "uri": "https://ca.example.com/c/2", "token": "abc"},
					map[string]any{"type": nil, "status": "pending", "url": nil, "token": nil},
				}, list...)
			})
			if _, err := w.get(host); err != nil {
				t.Errorf("a visitor gets %v", err)
			}
		})
	})
	for name, keep := range map[string]string{"dns-01 alone": "dns-01", "no challenges at all": ""} {
		table.Run(t, "B61/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.editChallenges(func(list []any) []any {
					return slices.DeleteFunc(list, func(c any) bool { return c.(map[string]any)["type"] != keep })
				})
				if _, err := w.get(host); err == nil || !strings.Contains(err.Error(), "the CA offers") || !strings.Contains(err.Error(), keep) {
					t.Errorf("the error does not say what the CA offers: %v", err)
				}
			})
		})
	}
}

// editChallenges changes the lists of challenges in authorizations.
func (w *world) editChallenges(f func(list []any) []any) {
	w.edit(acmetest.Authorization, func(r *acmetest.Reply) {
		r.EditObject(func(authz map[string]any) {
			if list, ok := authz["challenges"].([]any); ok {
				authz["challenges"] = f(list)
			}
		})
	})
}

func answer(status int, header http.Header, body string) *http.Response {
	rec := httptest.NewRecorder()
	maps.Copy(rec.Header(), header)
	rec.WriteHeader(status)
	rec.WriteString(body)
	return rec.Result()
}

// B62: a CA behind a proxy uses another scheme or host for itself than its
// users do (smallstep/certificates#193, #1814, knrdl/acme-ca-server#17,
// dogtagpki/pki#3435). The error names the URL that does not work.
func TestADirectoryThatLeadsElsewhereIsNamed(t *testing.T) {
	for name, elsewhere := range map[string]string{"http": "http://", "other host": "https://localhost:9000"} {
		table.Run(t, "B62/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				through(w, func(req *http.Request) *http.Response {
					if !strings.HasPrefix(req.URL.String(), elsewhere) {
						return nil
					}
					if elsewhere == "http://" { // the proxy sends everybody to https
						to := *req.URL
						to.Scheme = "https"
						return answer(301, http.Header{"Location": {to.String()}}, "moved")
					}
					return answer(502, nil, "<h1>Bad Gateway</h1>")
				})
				u, err := url.Parse(w.ca.URL)
				if err != nil {
					t.Fatal(err)
				}
				to := elsewhere
				if elsewhere == "http://" {
					to += u.Host
				}
				w.edit(acmetest.Directory, func(r *acmetest.Reply) {
					r.Body = []byte(strings.ReplaceAll(string(r.Body), "https://"+u.Host, to))
				})
				if _, err := w.get(host); err == nil || !strings.Contains(err.Error(), to) {
					t.Errorf("the error does not name %s: %v", to, err)
				}
			})
		})
	}
}

// B65: a program adds its own protocols to TLSConfig, and clones it
// (gravitational/teleport#8869).
func TestATLSConfigWithOwnProtocolsIsValidated(t *testing.T) {
	table.Run(t, "B65", func(t *T) {
		bubble(t, func(t *T, w *world) {
			config := w.m.TLSConfig()
			config.NextProtos = append([]string{"x-tunnel"}, config.NextProtos...)
			w.ca.Resolve("*", acmetest.Target{TLSConfig: config.Clone()})
			if _, err := w.get(host); err != nil {
				t.Errorf("a visitor gets %v", err)
			}
		})
	})
}

// B67: a CA spells names differently, in capitals or with a final dot
// (certbot/certbot#1712, acmephp/acmephp#280), or omits them.
func TestTheCAMayWriteNamesItsOwnWay(t *testing.T) {
	for name, value := range map[string]string{"capitals": "WWW.EXAMPLE.COM", "dot": "www.example.com.", "nothing": ""} {
		table.Run(t, "B67/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				id := map[string]any{"type": "dns", "value": value}
				for _, e := range []acmetest.Endpoint{acmetest.NewOrder, acmetest.Order, acmetest.Finalize, acmetest.Authorization} {
					w.edit(e, func(r *acmetest.Reply) {
						r.EditObject(func(object map[string]any) {
							if e == acmetest.Authorization {
								object["identifier"] = id
							} else {
								object["identifiers"] = []any{id}
							}
						})
					})
				}
				if _, err := w.get(host); err != nil || w.newOrders() != 1 {
					t.Errorf("%d orders, a visitor gets %v", w.newOrders(), err)
				}
			})
		})
	}
}

// B68: a CA's machines do not know each other's nonces and refuse two of three
// requests (letsencrypt/boulder#2809, diafygi/acme-tiny#287,
// esnet/acme-proxy#11), Vault without a new nonce (nginx/nginx-acme#47).
func TestBadNoncesAreOvercomeOrEnd(t *testing.T) {
	refuse := func(w *world, header http.Header) (posts *atomic.Int64) {
		posts = new(atomic.Int64)
		header.Set("Content-Type", "application/problem+json")
		through(w, func(req *http.Request) *http.Response {
			if req.Method != http.MethodPost {
				return nil
			}
			if posts.Add(1)%3 == 0 {
				return nil
			}
			return answer(400, header.Clone(), `{"type":"urn:ietf:params:acme:error:badNonce","status":400,"detail":"stale"}`)
		})
		return posts
	}
	table.Run(t, "B68/two of three", func(t *T) {
		bubble(t, func(t *T, w *world) {
			refuse(w, http.Header{})
			if _, err := w.get(host); err != nil || w.newOrders() != 1 {
				t.Errorf("%d orders, a visitor gets %v", w.newOrders(), err)
			}
		})
	})
	table.Run(t, "B68/all", func(t *T) {
		bubble(t, func(t *T, w *world) {
			// Requests that reach the CA have a nonce that it never issued.
			posts := refuse(w, http.Header{"Replay-Nonce": {"bm9uY2Utb2YtYW5vdGhlci1tYWNoaW5l"}})
			if _, err := w.get(host); err == nil || !strings.Contains(err.Error(), "badNonce") {
				t.Errorf("the error does not say badNonce: %v", err)
			}
			if n := posts.Load(); n > 20 {
				t.Errorf("%d requests before it was given up", n)
			}
		})
	})
}

// B74: some CAs refuse requests without a User-Agent (polymind-inc/acmebot#678,
// Buypass), which must be meaningful by RFC 8555, section 6.1.
func TestEveryRequestNamesItsUserAgent(t *testing.T) {
	table.Run(t, "B74", func(t *T) {
		bubble(t, func(t *T, w *world) {
			mustObtain(t, w, host)
			for _, r := range w.ca.Requests() {
				if r.UserAgent == "" || strings.HasPrefix(r.UserAgent, "Go-http-client") {
					t.Errorf("%s by %q", r.Endpoint, r.UserAgent)
				}
			}
		})
	})
}
