package certmgr

import (
	"context"
	"crypto"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/capped"
)

// unfinishedOrder is an order whose certificate request the CA has, but whose
// certificate did not arrive: it is stuck in processing, or the download failed.
// The next attempt goes on with it. A new order each time would be a new
// certificate each time, and those are few: 5 for the same names in 7 days at
// Let's Encrypt.
type unfinishedOrder struct {
	url     string
	key     crypto.Signer // of the certificate
	account acme.KeyID
	since   time.Time
}

const (
	// unfinishedFor is how long an order is gone on with. One that is still
	// processing after that will not end well.
	unfinishedFor = 24 * time.Hour

	maxUnfinished = 1_000
)

// unfinishedOrders holds them by subject. The zero value is ready.
type unfinishedOrders struct {
	mu     sync.Mutex
	orders capped.Map[subject, *unfinishedOrder]
}

// take removes and returns what is left of an earlier attempt, or nil.
func (u *unfinishedOrders) take(sub subject, account acme.KeyID, now time.Time) *unfinishedOrder {
	u.mu.Lock()
	defer u.mu.Unlock()
	o, ok := u.orders.Get(sub)
	u.orders.Delete(sub)
	if !ok || o.account != account || now.Sub(o.since) >= unfinishedFor {
		return nil
	}
	return o
}

// put keeps an order for the next attempt. When there are too many any one is
// forgotten: it costs an order more.
func (u *unfinishedOrders) put(sub subject, o *unfinishedOrder) {
	if o == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.orders.Max = maxUnfinished
	u.orders.Put(sub, o, nil)
}

// errAbandoned: nothing can come of an unfinished order any more.
var errAbandoned = errors.New("certmgr: the order cannot be finished")

// resume goes on with an unfinished order.
func (a *attempt) resume(ctx context.Context) (crypto.Signer, [][]byte, error) {
	o := a.unfinished
	a.order = o.url
	a.enter(audit.StageFinalize)
	order, err := a.pollOrder(ctx, o.url, 0, acme.StatusProcessing)
	var chain [][]byte
	if err == nil && order.Status == acme.StatusValid && order.CertURL != "" {
		chain, err = a.client.FetchCert(ctx, order.CertURL, true)
	} else if err == nil {
		err = errAbandoned
	}
	if e, ok := acmeclient.Problem(err); err == errAbandoned || ok && e.StatusCode < http.StatusInternalServerError && !acmeclient.IsRateLimited(err) {
		a.unfinished = nil // the CA does not know it any more
		return nil, nil, errAbandoned
	}
	return o.key, chain, acmeclient.Cause(err)
}

// mayBeFinal reports whether the CA may have taken a certificate request although
// the answer was a failure.
func mayBeFinal(err error) bool {
	e, ok := acmeclient.Problem(err)
	return !ok || e.StatusCode >= http.StatusInternalServerError
}
