package cases

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// B09: ZeroSSL sends an empty error object for a failure
// (acmesh-official/acme.sh#4931). The error says that the CA gave no reason.
func TestAnEmptyReasonIsCalledNone(t *testing.T) {
	table.Run(t, "B09", func(t *T) {
		check := func(t *T, w *world) {
			t.Helper()
			_, err := w.get(host)
			if err == nil || !strings.Contains(err.Error(), "no reason") {
				t.Errorf("the error does not say that the CA gives no reason: %v", err)
			}
		}
		t.Run("challenge", func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.ca.FailValidation(host, "", acmetest.Problem{Type: "unauthorized", Detail: "hidden"})
				w.edit(acmetest.Authorization, func(r *acmetest.Reply) {
					r.EditObject(func(authorization map[string]any) {
						challenges, _ := authorization["challenges"].([]any)
						for _, c := range challenges {
							if c := c.(map[string]any); c["error"] != nil {
								c["error"] = map[string]any{}
							}
						}
					})
				})
				check(t, w)
			})
		})
		t.Run("order", func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.ca.InvalidOrder(host)
				emptied := func(r *acmetest.Reply) {
					r.EditObject(func(order map[string]any) {
						if order["error"] != nil || order["status"] == "invalid" {
							order["error"] = map[string]any{}
						}
					})
				}
				for _, e := range []acmetest.Endpoint{acmetest.NewOrder, acmetest.Order, acmetest.Finalize} {
					w.edit(e, emptied)
				}
				check(t, w)
			})
		})
	})
}

// B10: problem documents as CAs send them: without a status
// (go-acme/lego#1937), with a string as status or a type named message
// (grindsa/acme2certifier#35), as HTML, or not at all. Their content is shown.
func TestAnOddProblemDocumentIsShown(t *testing.T) {
	const reason = "policy forbids it"
	page := "<!DOCTYPE html>\n<html><head><title>400 Header Too Large</title><style>" +
		strings.Repeat("body{margin:0}\n", 300) + "</style></head><body><h1>400 Bad Request</h1></body></html>"
	table.Run(t, "B10", func(t *T) {
		for _, tt := range []struct{ name, contentType, body, want string }{
			{"no status", "application/problem+json", `{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"policy forbids it"}`, reason},
			{"status is a string", "application/problem+json", `{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"policy forbids it","status":"400"}`, reason},
			{"type called message", "application/json", `{"status":400,"message":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"policy forbids it"}`, reason},
			{"detail is an object", "application/problem+json", `{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":{"reason":"policy forbids it"},"status":400}`, reason},
			{"HTML", "text/html", page, "400 Header Too Large"},
			{"nothing", "", "", "400"},
		} {
			t.Run(tt.name, func(t *T) {
				bubble(t, func(t *T, w *world) {
					header := http.Header{"Content-Type": {tt.contentType}}
					w.ca.Respond(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusBadRequest, header, tt.body)
					_, err := w.get(host)
					if err == nil || !strings.Contains(err.Error(), tt.want) {
						t.Fatalf("the error does not say %q: %v", tt.want, err)
					}
					if n := len(err.Error()); n > 2000 {
						t.Errorf("the error is %d bytes long", n)
					}
				})
			})
		}
		t.Run("badNonce without a nonce", func(t *T) { // the request is repeated with another one
			bubble(t, func(t *T, w *world) {
				header := http.Header{"Content-Type": {"application/json"}, "Replay-Nonce": nil}
				w.ca.Respond(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 2}, http.StatusBadRequest, header,
					`{"type":"urn:ietf:params:acme:error:badNonce","detail":"The supplied nonce has expired."}`)
				mustObtain(t, w, host)
			})
		})
	})
}

// B11: an order's "expires" is missing (rmbolger/Posh-ACME#611, GoDaddy), of
// the year 1 (smallstep/certificates#92), or not a date. It is not needed.
func TestAnOddExpiryOfAnOrderDoesNoHarm(t *testing.T) {
	table.Run(t, "B11", func(t *T) {
		for _, tt := range []struct {
			name    string
			expires any // nil leaves it out
		}{
			{"missing", nil},
			{"year 1", "0001-01-01T00:00:00Z"},
			{"fraction", "2036-11-02T14:30:00.000Z"},
			{"offset", "2036-11-02T14:30:00+00:00"},
			{"empty", ""},
			{"space for T", "2036-11-02 14:30:00"},
			{"number", 1893456000},
		} {
			t.Run(tt.name, func(t *T) {
				bubble(t, func(t *T, w *world) {
					for _, e := range []acmetest.Endpoint{acmetest.NewOrder, acmetest.Order, acmetest.Finalize} {
						w.edit(e, func(r *acmetest.Reply) {
							r.EditObject(func(order map[string]any) {
								if r.Status >= 300 {
									return
								}
								order["expires"] = tt.expires
								if tt.expires == nil {
									delete(order, "expires")
								}
							})
						})
					}
					_, err := w.until(host, time.Hour, 3*time.Hour)
					if n := w.newOrders(); err != nil || n != 1 {
						t.Errorf("%d orders, want 1; %v", n, err)
					}
				})
			})
		}
	})
}

// B13: the URL of the certificate answers with a proxy's page
// (acmesh-official/acme.sh#5089), or is not known yet
// (cert-manager/cert-manager#8939, letsencrypt/boulder#6593). The certificate
// exists, and is requested again.
func TestACertificateThatCannotBeFetchedYetIsNotOrderedAgain(t *testing.T) {
	const page = "<html>\n<head><title>504 Gateway Time-out</title></head>\n<body>nginx</body>\n</html>\n"
	table.Run(t, "B13", func(t *T) {
		for _, tt := range []struct{ status, count int }{{504, 6}, {200, 6}, {404, 1}, {404, 2}, {404, 6}} {
			t.Run(fmt.Sprintf("%d %d times", tt.status, tt.count), func(t *T) {
				bubble(t, func(t *T, w *world) {
					w.ca.Respond(acmetest.Match{Endpoint: acmetest.Certificate, Count: tt.count}, tt.status,
						http.Header{"Content-Type": {"text/html"}}, page)
					_, err := w.until(host, time.Minute, 5*time.Hour)
					if n := w.issued(); err != nil || n != 1 {
						t.Errorf("%d certificates issued, want 1; %v", n, err)
					}
				})
			})
		}
	})
}

// B46: an order lists an authorization more than once. It is processed once.
func TestAnAuthorizationThatIsListedTwiceIsNoTrouble(t *testing.T) {
	table.Run(t, "B46", func(t *T) {
		for _, n := range []int{2, 4} {
			t.Run(fmt.Sprint(n), func(t *T) {
				bubble(t, func(t *T, w *world) {
					w.edit(acmetest.NewOrder, func(r *acmetest.Reply) {
						r.EditObject(func(order map[string]any) {
							list, _ := order["authorizations"].([]any)
							for len(list) > 0 && len(list) < n {
								list = append(list, list[0])
							}
							order["authorizations"] = list
						})
					})
					mustObtain(t, w, host)
				})
			})
		}
	})
}

// B47: the terms of service are a data URL (shred/acme4j#41).
func TestTermsMayBeADataURL(t *testing.T) {
	table.Run(t, "B47", func(t *T) {
		terms := func(ca *acmetest.Server) { ca.Terms = "data:text/plain,Do%20what%20thou%20wilt" }
		bubbleCA(t, terms, func(t *T, w *world) { mustObtain(t, w, host) })
	})
}
