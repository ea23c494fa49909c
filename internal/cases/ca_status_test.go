package cases

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// B01: DigiCert answers newOrder with 200 where RFC 8555 requires 201
// (PKISharp/ACMESharpCore#43, win-acme/win-acme#1568). The order is valid.
func TestAnOrderAnsweredWith200IsAnOrder(t *testing.T) {
	table.Run(t, "B01", func(t *T) { successAs(t, acmetest.NewOrder, http.StatusOK) })
}

// B02: a CA answers finalize with 201 (acmesh-official/acme.sh#4989 and #4990,
// win-acme/win-acme#1448). Any 2xx status means success, and the issued
// certificate must not be discarded.
func TestAnyStatus2xxIsSuccess(t *testing.T) {
	table.Run(t, "B02", func(t *T) {
		for _, tt := range []struct {
			endpoint acmetest.Endpoint
			status   int
		}{
			{acmetest.NewAccount, http.StatusAccepted},
			{acmetest.NewOrder, http.StatusAccepted},
			{acmetest.Authorization, http.StatusCreated},
			{acmetest.Challenge, http.StatusCreated},
			{acmetest.Challenge, http.StatusAccepted},
			{acmetest.Finalize, http.StatusCreated},
			{acmetest.Finalize, http.StatusAccepted},
			{acmetest.Order, http.StatusCreated},
			{acmetest.Order, http.StatusAccepted},
			{acmetest.Certificate, http.StatusCreated},
			{acmetest.Certificate, http.StatusNonAuthoritativeInfo},
		} {
			t.Run(fmt.Sprint(tt.endpoint, " ", tt.status), func(t *T) { successAs(t, tt.endpoint, tt.status) })
		}
	})
}

// successAs makes an endpoint answer with status instead of another status
// below 300: clients are still served, and one certificate is issued.
func successAs(t *T, e acmetest.Endpoint, status int) {
	t.Helper()
	set := func(ca *acmetest.Server) { ca.Processing = time.Second } // so that the order is polled
	bubbleCA(t, set, func(t *T, w *world) {
		w.edit(e, func(r *acmetest.Reply) {
			if r.Status < 300 {
				r.Status = status
			}
		})
		_, err := w.until(host, time.Hour, 3*time.Hour)
		if err != nil || w.newOrders() != 1 || w.issued() != 1 {
			t.Errorf("%d orders, %d certificates issued, want 1 each; %v", w.newOrders(), w.issued(), err)
		}
		if w.ca.Count(e) == 0 {
			t.Errorf("nothing was sent to %s", e)
		}
	})
}
