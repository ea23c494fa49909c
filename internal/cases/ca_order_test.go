package cases

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// B03: after finalize, the order is still "ready" or "pending" for a while, as
// a replica of the CA's database lags (caddyserver/certmagic#157,
// publishlab/node-acme-client#53). A certificate that is being issued must not
// be ordered again.
func TestAnOrderThatFinalizeHasNotChangedYetIsNotGivenUp(t *testing.T) {
	table.Run(t, "B03", func(t *T) {
		for _, status := range []string{"ready", "pending"} {
			t.Run(status, func(t *T) {
				bubble(t, func(t *T, w *world) {
					var fresh atomic.Int64 // the end of the old status, in Unix seconds
					stale := func(r *acmetest.Reply) {
						if time.Now().Unix() < fresh.Load() {
							r.EditObject(func(order map[string]any) {
								order["status"] = status
								delete(order, "certificate")
							})
						}
					}
					w.edit(acmetest.Order, stale)
					w.edit(acmetest.Finalize, func(r *acmetest.Reply) {
						if r.Status == http.StatusOK {
							fresh.Store(time.Now().Unix() + 3)
						}
						stale(r)
					})
					_, err := w.until(host, time.Hour, 24*time.Hour)
					if err != nil || w.issued() != 1 {
						t.Errorf("%d certificates issued, want 1; %v", w.issued(), err)
					}
				})
			})
		}
	})
}

// B05: the answer to newOrder or newAccount lacks Location, which RFC 8555
// requires and proxies strip (golang/go#73504, letsencrypt/boulder#8197).
// Either it does no harm, or nothing is issued and the error says what is
// missing.
func TestAMissingLocationIsNamedBeforeAnythingIsIssued(t *testing.T) {
	table.Run(t, "B05", func(t *T) {
		for _, e := range []acmetest.Endpoint{acmetest.NewOrder, acmetest.NewAccount} {
			t.Run(string(e), func(t *T) {
				bubble(t, func(t *T, w *world) {
					w.edit(e, func(r *acmetest.Reply) { r.Header.Del("Location") })
					_, err := w.until(host, time.Hour, 24*time.Hour)
					if err == nil {
						return
					}
					if n := w.issued(); n > 0 {
						t.Errorf("%d certificates issued and thrown away", n)
					}
					if !strings.Contains(err.Error(), "Location") {
						t.Errorf("the error does not name Location: %v", err)
					}
				})
			})
		}
	})
}

// B06: the CA sends relative URLs (certbot/certbot#434). RFC 8555 requires
// absolute ones; a client that does not resolve them has to say what is wrong.
func TestARelativeURLIsResolvedOrNamed(t *testing.T) {
	table.Run(t, "B06", func(t *T) {
		for _, e := range []acmetest.Endpoint{acmetest.Directory, acmetest.NewAccount, acmetest.NewOrder,
			acmetest.Authorization, acmetest.Order} {
			t.Run(string(e), func(t *T) {
				bubble(t, func(t *T, w *world) {
					base := strings.TrimSuffix(w.ca.URL, "/directory")
					w.edit(e, func(r *acmetest.Reply) {
						if l := r.Header.Get("Location"); l != "" {
							r.Header.Set("Location", strings.TrimPrefix(l, base))
						}
						r.Body = []byte(strings.ReplaceAll(string(r.Body), base, ""))
					})
					_, err := w.until(host, time.Hour, 26*time.Hour)
					if err == nil {
						return
					}
					if text := err.Error(); !strings.Contains(text, "absolute") && !strings.Contains(text, "relative") {
						t.Errorf("the error does not say that a URL of the CA is relative: %v", err)
					}
					if n := w.issued(); n > 0 {
						t.Errorf("%d certificates issued and thrown away", n)
					}
				})
			})
		}
	})
}

// B07: another program with the same account ordered the same name, got the
// same order, and finalized it first (cert-manager/cert-manager#8968,
// rmbolger/Posh-ACME#401, srvrco/getssl#626). Its certificate is useless
// without its key, so the next attempt has to create another order.
func TestAnOrderThatSomebodyElseFinalizedCostsOneAttempt(t *testing.T) {
	table.Run(t, "B07", func(t *T) {
		for _, status := range []string{"valid", "processing"} {
			t.Run(status, func(t *T) {
				bubble(t, func(t *T, w *world) {
					w.ca.WrongKey(host, acmetest.Times(1))
					w.ca.Edit(acmetest.Match{Endpoint: acmetest.Finalize, Count: 1}, func(r *acmetest.Reply) {
						r.SetProblem(acmetest.Problem{Type: "orderNotReady", Status: http.StatusForbidden,
							Detail: fmt.Sprintf("Order's status (%q) is not acceptable for finalization", status)})
					})
					if took, err := w.until(host, time.Minute, 24*time.Hour); err != nil || took > 3*time.Minute {
						t.Errorf("no certificate for %v: %v", took, err)
					}
				})
			})
		}
	})
}

// B08: the authorization is valid, but the order becomes ready only later
// (dogtagpki/pki#4562). The client waits for it.
func TestAnOrderThatIsNotReadyYetIsFinalizedLater(t *testing.T) {
	table.Run(t, "B08", func(t *T) {
		bubble(t, func(t *T, w *world) {
			ready := time.Now().Add(2 * time.Second)
			w.edit(acmetest.Order, func(r *acmetest.Reply) {
				if time.Now().Before(ready) {
					r.EditObject(func(order map[string]any) { order["status"] = "pending" })
				}
			})
			w.ca.Status(acmetest.Match{Endpoint: acmetest.Finalize, Count: 1}, http.StatusForbidden, nil,
				acmetest.Problem{Type: "orderNotReady", Detail: "the order is not ready"})
			mustObtain(t, w, host)
			if n := w.newOrders(); n != 1 {
				t.Errorf("%d orders, want 1", n)
			}
		})
	})
}
