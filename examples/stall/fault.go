package main

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// faults are what can be wrong with a side's CA, by the name that -fault takes. The validation fails with all of them,
// if a side gets as far as that.
var faults = map[string]func(*brokenCA){
	"validation": func(*brokenCA) {},
	"429":        func(b *brokenCA) { b.limit() },
	"stall":      func(b *brokenCA) { b.stall() },
	"mix":        func(b *brokenCA) { b.limitNext = true },
}

// faultTexts say the same in words, for the picture.
var faultTexts = map[string]string{
	"validation": "the validation fails",
	"429":        "the CA answers orders with 429",
	"stall":      "the CA does not answer orders",
	"mix":        "the validation fails, then the CA answers orders with 429",
}

func faultNames() []string {
	names := make([]string, 0, len(faults))
	for name := range faults {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// brokenCA is a CA that can issue no certificate for host, and the machine where its validation ends up.
type brokenCA struct {
	*acmetest.Server
	elsewhere *httptest.Server
	reached   atomic.Pointer[time.Time] // when a validation first reached the other machine
	limitNext bool                      // a validation that failed uses up the CA's limit

	limit func()
	stall func()
}

func newBrokenCA(fault string) *brokenCA {
	b := &brokenCA{Server: acmetest.NewServer()}
	newOrder := acmetest.Match{Endpoint: acmetest.NewOrder, Host: host}
	b.limit = sync.OnceFunc(func() {
		b.Status(newOrder, http.StatusTooManyRequests, http.Header{"Retry-After": {"60"}},
			acmetest.Problem{Type: "rateLimited", Detail: "too many failed validations for " + host})
	})
	b.stall = sync.OnceFunc(func() { b.Stall(newOrder) })
	faults[fault](b)

	b.elsewhere = httptest.NewUnstartedServer(http.NotFoundHandler())
	b.elsewhere.TLS = &tls.Config{GetConfigForClient: b.validated}
	b.elsewhere.Config.ErrorLog = log.New(io.Discard, "", 0) // that it has no acme-tls/1 is the point
	b.elsewhere.StartTLS()
	b.Resolve(host, acmetest.Target{
		TLSAddr:  b.elsewhere.Listener.Addr().String(),
		HTTPAddr: b.elsewhere.Listener.Addr().String(),
	})
	return b
}

// validated is called when the CA's validation reaches the other machine, which knows nothing of ACME.
func (b *brokenCA) validated(*tls.ClientHelloInfo) (*tls.Config, error) {
	now := time.Now()
	b.reached.CompareAndSwap(nil, &now)
	if b.limitNext {
		b.limit()
	}
	return nil, nil
}

// failed returns when the side could first know that something is wrong, and what that was.
func (b *brokenCA) failed() (time.Time, string) {
	if t := b.reached.Load(); t != nil {
		return *t, "the CA's validation had reached the other machine"
	}
	for _, r := range b.Requests() {
		if r.Endpoint == acmetest.NewOrder {
			return r.Time, "the order had reached the CA"
		}
	}
	return time.Time{}, ""
}

func (b *brokenCA) close() {
	b.Close()
	b.elsewhere.Close()
}
