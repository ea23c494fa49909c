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

// faults holds the possible faults of a side's CA, by the name in -fault. With
// all of them the validation fails, if it gets that far.
var faults = map[string]func(*brokenCA){
	"validation": func(*brokenCA) {},
	"429":        func(b *brokenCA) { b.limit() },
	"stall":      func(b *brokenCA) { b.stall() },
	"mix":        func(b *brokenCA) { b.limitNext = true },
}

// faultTexts describes them in words, for the picture.
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

// brokenCA is a CA that cannot issue a certificate for host, and the machine
// that its validation reaches.
type brokenCA struct {
	*acmetest.Server
	elsewhere *httptest.Server
	reached   atomic.Pointer[time.Time] // when a validation first reached the other machine
	limitNext bool                      // a failed validation uses up the CA's limit

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
	b.elsewhere.Config.ErrorLog = log.New(io.Discard, "", 0) // lacking acme-tls/1 is the point
	b.elsewhere.StartTLS()
	b.Resolve(host, acmetest.Target{
		TLSAddr:  b.elsewhere.Listener.Addr().String(),
		HTTPAddr: b.elsewhere.Listener.Addr().String(),
	})
	return b
}

// validated is called when the CA's validation reaches the other machine, which
// does not speak ACME.
func (b *brokenCA) validated(*tls.ClientHelloInfo) (*tls.Config, error) {
	now := time.Now()
	b.reached.CompareAndSwap(nil, &now)
	if b.limitNext {
		b.limit()
	}
	return nil, nil
}

// failed returns when the side could first notice the fault, and what it was.
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
