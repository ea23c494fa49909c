package cases

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// hostnames returns n names, each of another domain.
func hostnames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("www.example%d.com", i)
	}
	return names
}

// B16: the account was deactivated at the CA (acmesh-official/acme.sh#3889 with
// ZeroSSL's words; letsencrypt/pebble#179 and #180 with Boulder's). Waiting
// helps no host: the error blames the account, and hosts do not try one after
// another.
func TestADeactivatedAccountIsNotTheHostsFailure(t *testing.T) {
	table.Run(t, "B16", func(t *T) {
		for _, tt := range []struct {
			name, detail string
			status       int
		}{
			{"ZeroSSL", "The account has been deactivated", http.StatusUnauthorized},
			{"Boulder", `Account is not valid, has status "deactivated"`, http.StatusForbidden},
		} {
			deactivate := func(w *world) {
				for _, e := range []acmetest.Endpoint{acmetest.NewAccount, acmetest.UpdateAccount, acmetest.NewOrder, acmetest.Order} {
					w.ca.Status(acmetest.Match{Endpoint: e}, tt.status, nil, acmetest.Problem{Type: "unauthorized", Detail: tt.detail})
				}
			}
			t.Run(tt.name+" while running", func(t *T) {
				bubble(t, func(t *T, w *world) {
					hosts := hostnames(10)
					w.restart(hosts...)
					mustObtain(t, w, hosts[0])
					deactivate(w)
					before := w.ca.Count(acmetest.NewOrder)
					var err error
					for _, name := range hosts[1:] {
						_, err = w.get(name)
					}
					if !errors.Is(err, certmgr.ErrNoAccount) {
						t.Errorf("the error is not ErrNoAccount but [%s]: %v", sentinels(err), err)
					}
					if n := w.ca.Count(acmetest.NewOrder) - before; n > 5 {
						t.Errorf("%d requests to newOrder for %d hosts", n, len(hosts)-1)
					}
				})
			})
			t.Run(tt.name+" after a restart", func(t *T) {
				bubble(t, func(t *T, w *world) {
					mustObtain(t, w, host)
					deactivate(w)
					w.restart("a.example.com", "b.example.com")
					w.get("a.example.com")
					time.Sleep(5 * time.Second)
					_, err := w.get("b.example.com")
					if !errors.Is(err, certmgr.ErrNoAccount) {
						t.Errorf("the error is not ErrNoAccount but [%s]: %v", sentinels(err), err)
					}
				})
			})
		}
	})
}

// B17: after a change of the account's key, the front ends of Let's Encrypt
// expect the old one for some seconds (letsencrypt/boulder#8124, #8132). A host
// that is requested then also waits only seconds.
func TestAKeyChangeThatIsNotKnownEverywhereYetCostsSeconds(t *testing.T) {
	table.Run(t, "B17", func(t *T) {
		bubble(t, func(t *T, w *world) {
			const other = "other.example.com"
			w.restart(host, other)
			mustObtain(t, w, host)
			if err := w.m.RollAccountKey(t.Context()); err != nil {
				t.Fatal(err)
			}
			fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusBadRequest, nil,
				acmetest.Problem{Type: "malformed", Detail: "JWS verification error"})
			time.AfterFunc(5*time.Second, fault.Lift)
			if took, err := w.until(other, 5*time.Second, time.Hour); err != nil || took > 20*time.Second {
				t.Errorf("5 s of refusals cost the host %v: %v", took, err)
			}
		})
	})
}

// B19: the terms have changed, and the CA wants the operator to visit a page
// (RFC 8555, section 7.3.3; ietf-wg-acme/acme#182). The error names the page,
// and the account is blamed.
func TestThePageThatTheOperatorHasToVisitIsNamed(t *testing.T) {
	table.Run(t, "B19", func(t *T) {
		terms := func(ca *acmetest.Server) { ca.Terms = "https://ca.example.com/terms-1" }
		bubbleCA(t, terms, func(t *T, w *world) {
			w.restart(host, "b.example.org", "c.example.net")
			mustObtain(t, w, host)
			header := http.Header{
				"Content-Type": {"application/problem+json"},
				"Link":         {`<https://ca.example.com/terms-2>;rel="terms-of-service"`},
			}
			w.ca.Respond(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusForbidden, header,
				`{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"Terms of service have changed",`+
					`"instance":"https://ca.example.com/agreement/?token=W8Ih3PswD-8"}`)
			w.get("b.example.org")
			_, err := w.get("c.example.net")
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), "https://ca.example.com/agreement/") {
				t.Errorf("the error does not name the page: %v", err)
			}
			if !errors.Is(err, certmgr.ErrNoAccount) {
				t.Errorf("the error is not ErrNoAccount but [%s]: %v", sentinels(err), err)
			}
		})
	})
}

// B20: Google Trust Services limits the requests to each resource of an
// account, and states the wait only in the text (acmesh-official/acme.sh#4364).
// All hosts get their certificates, with few failed orders.
func TestAQuotaForAResourceIsLivedWith(t *testing.T) {
	table.Run(t, "B20", func(t *T) {
		bubble(t, func(t *T, w *world) {
			hosts := hostnames(20)
			w.restart(hosts...)
			q := quota{most: 8, per: time.Minute}
			w.edit(acmetest.Challenge, func(r *acmetest.Reply) {
				if !q.take() {
					r.SetProblem(acmetest.Problem{Type: "rateLimited", Status: http.StatusTooManyRequests,
						Detail: "over quota (8 requests in 60 seconds) for the given ACME resource: challenge. Try again in 12.476542291s."})
				}
			})
			if err := w.m.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			for begin := time.Now(); w.issued() < len(hosts) && time.Since(begin) < 24*time.Hour; {
				time.Sleep(time.Minute)
			}
			if w.issued() < len(hosts) || w.newOrders() > 3*len(hosts) {
				t.Errorf("%d of %d certificates, %d orders", w.issued(), len(hosts), w.newOrders())
			}
		})
	})
}

// A quota is a limit on requests in a sliding window.
type quota struct {
	most int
	per  time.Duration

	mu    sync.Mutex
	taken []time.Time
}

func (q *quota) take() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.taken) > 0 && time.Since(q.taken[0]) > q.per {
		q.taken = q.taken[1:]
	}
	if len(q.taken) >= q.most {
		return false
	}
	q.taken = append(q.taken, time.Now())
	return true
}
