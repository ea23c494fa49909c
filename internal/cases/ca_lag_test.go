package cases

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// B59: a CA's database is replicated, and an object that was just created is
// unknown to the next requests (cert-manager/cert-manager#8939,
// letsencrypt/boulder#6593). A few such answers cost seconds, but never an
// issued certificate.
func TestAReplicaThatLagsCostsSeconds(t *testing.T) {
	table.Run(t, "B59", func(t *T) {
		for _, e := range []acmetest.Endpoint{acmetest.NewOrder, acmetest.Authorization, acmetest.Challenge,
			acmetest.Finalize, acmetest.Order} {
			for _, n := range []int{1, 2, 4} {
				t.Run(fmt.Sprintf("%s %d times", e, n), func(t *T) {
					bubble(t, func(t *T, w *world) {
						w.unknown(acmetest.Match{Endpoint: e, Count: n})
						soonServed(t, w)
					})
				})
			}
		}
		for _, tt := range []struct{ made, unknown acmetest.Endpoint }{
			{acmetest.NewOrder, acmetest.Authorization},
			{acmetest.NewOrder, acmetest.Challenge},
			{acmetest.Challenge, acmetest.Finalize},
			{acmetest.Challenge, acmetest.Order},
			{acmetest.Finalize, acmetest.Certificate},
		} {
			t.Run(fmt.Sprintf("%s for 2 s", tt.unknown), func(t *T) {
				bubble(t, func(t *T, w *world) {
					w.edit(tt.made, func(r *acmetest.Reply) {
						if r.Status < 300 {
							time.AfterFunc(2*time.Second, w.unknown(acmetest.Match{Endpoint: tt.unknown}))
						}
					})
					soonServed(t, w)
				})
			})
		}
	})
}

// unknown makes the CA answer like a replica that does not have an object yet.
func (w *world) unknown(m acmetest.Match) (lift func()) {
	status, p := http.StatusNotFound, acmetest.Problem{Type: "malformed", Detail: "No such " + string(m.Endpoint)}
	if m.Endpoint == acmetest.NewOrder { // does not know the account
		status, p = http.StatusBadRequest, acmetest.Problem{Type: "accountDoesNotExist", Detail: "Account not found"}
	}
	return w.ca.Status(m, status, nil, p).Lift
}

func soonServed(t *T, w *world) {
	t.Helper()
	took, err := w.until(host, 10*time.Second, time.Hour)
	if n := w.issued(); err != nil || took > 2*time.Minute || n != 1 {
		t.Errorf("%v without a certificate, %d issued; %v", took, n, err)
	}
}

// B22: only the subproblems say why a CA refuses for CAA, and the text has
// several lines (letsencrypt/boulder#4359 and #4235, win-acme/win-acme#779).
// The error has all of it, in one line.
func TestTheReasonInASubproblemIsShown(t *testing.T) {
	table.Run(t, "B22", func(t *T) {
		bubble(t, func(t *T, w *world) {
			w.ca.FailFinalize(host, acmetest.Problem{Type: "caa",
				Detail:      "Rechecking CAA for \"www.example.com\" failed.\nRefer to sub-problems for more information",
				Subproblems: []acmetest.Subproblem{{Type: "caa", Detail: "CAA record for example.com prevents issuance"}}})
			_, err := w.get(host)
			if err == nil || !strings.Contains(err.Error(), "CAA record for example.com prevents issuance") {
				t.Fatalf("the error lacks the reason: %v", err)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has several lines: %q", err)
			}
		})
	})
}
