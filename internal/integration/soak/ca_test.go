package soak

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// rudeCA is a CA that has a fault most of the time.
type rudeCA struct {
	*acmetest.Server
	names []string // of hosts that it has faults for

	mu       sync.Mutex
	requests map[string]int // by endpoint and status
}

func newRudeCA() *rudeCA {
	ca := &rudeCA{Server: acmetest.NewUnstartedServer(), requests: make(map[string]int)}
	ca.Lifetime = *lifetime
	ca.Processing = 300 * time.Millisecond
	ca.Start()
	ca.BadNonceRate(0.05)
	return ca
}

// endpoints are where faults are.
var endpoints = []acmetest.Endpoint{
	acmetest.Directory, acmetest.NewNonce, acmetest.NewOrder, acmetest.Order, acmetest.Authorization, acmetest.Challenge,
	acmetest.Finalize, acmetest.Certificate, acmetest.RenewalInfo, acmetest.Any,
}

// misbehave makes one fault after the other, until ctx ends.
func (ca *rudeCA) misbehave(ctx context.Context) {
	for ctx.Err() == nil {
		lift := ca.fault(acmetest.Match{Endpoint: endpoints[rand.IntN(len(endpoints))]})
		sleep(ctx, time.Duration(200+rand.IntN(1800))*time.Millisecond)
		lift()
		sleep(ctx, time.Second)
		ca.forget()
	}
}

// fault begins one. The returned function ends it.
func (ca *rudeCA) fault(m acmetest.Match) (lift func()) {
	limited := http.Header{"Retry-After": {"2"}}
	name := ca.names[rand.IntN(len(ca.names))]
	switch rand.IntN(11) {
	case 0:
		return ca.Status(m, http.StatusInternalServerError, nil, acmetest.Problem{Type: "serverInternal"}).Lift
	case 1:
		return ca.Respond(m, http.StatusBadGateway, nil, "<html>bad gateway</html>").Lift
	case 2:
		return ca.Status(m, http.StatusTooManyRequests, limited, acmetest.Problem{Type: "rateLimited"}).Lift
	case 3:
		return ca.Delay(m, time.Duration(rand.IntN(2_000))*time.Millisecond).Lift
	case 4:
		return ca.Drop(m).Lift
	case 5:
		return ca.Garbage(m).Lift
	case 6:
		return ca.Truncate(m).Lift
	case 7:
		m.Count = 5
		return ca.Stall(m).Lift
	case 8:
		return ca.FailValidation(name, "tls-alpn-01", acmetest.Problem{Type: "connection"}, acmetest.Times(2)).Lift
	case 9:
		return ca.FailFinalize(name, acmetest.Problem{Type: "serverInternal"}, acmetest.Times(1)).Lift
	default:
		ca.ForgetNonces()
		return func() {}
	}
}

// forget counts the requests in the log and empties it.
func (ca *rudeCA) forget() {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	for _, r := range ca.ForgetRequests() {
		ca.requests[string(r.Endpoint)]++
	}
}

// sleep waits, or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
