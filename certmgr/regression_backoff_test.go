package certmgr

import (
	"crypto/tls"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
)

// ECDSA and RSA visitors at once: one failed validation should hold both back.
func TestFailedValidationHoldsBothKeyTypesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.m.HTTPHandler(nil)
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns"})
		w.get("a.example.com")
		w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: "a.example.com", SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256}})
		time.Sleep(30 * time.Second)
		if n := len(w.events.of(audit.ChallengeFailed)); n > 2 {
			t.Errorf("%d failed validations within seconds, %d orders (LE allows 5 an hour)", n, w.orders("a.example.com"))
		}
	})
}

// an Obtain that got no slot shortens the wait that the CA asked for.
func TestQueueTimeoutKeepsRetryAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.MaxIssuing = 1
		lift := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "a.example.com"}, 429, http.Header{"Retry-After": {"36000"}},
			acmetest.Problem{Type: "rateLimited", Detail: `too many certificates for "a.example.com"`})
		w.get("a.example.com")
		lift()
		n := w.orders("a.example.com")
		release, err := w.m.engine.operator.issuer.slots.Acquire(t.Context(), flight.Claim{Priority: int(withVisitor)})
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		if err := w.m.Obtain(t.Context(), "a.example.com"); !errors.Is(err, ErrBusy) {
			t.Errorf("Obtain = %v, want ErrBusy", err)
		}
		time.Sleep(10 * time.Minute)
		w.get("a.example.com")
		time.Sleep(10 * time.Minute)
		if got := w.orders("a.example.com"); got != n {
			t.Errorf("%d orders, the CA said 10 h", got-n)
		}
	})
}
