package order

import (
	"context"
	"crypto"
	"errors"
	"net/http"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
)

// Unfinished is an order that was finalized but whose certificate did not
// arrive: it is stuck in processing, or the download failed. The next
// conversation resumes it. A new order each time would mean a new certificate
// each time, and Let's Encrypt allows only 5 for the same names in 7 days.
type Unfinished struct {
	URL     string
	Key     crypto.Signer // of the certificate
	Account acme.KeyID    // owner of the order: no other account can resume it
	Since   time.Time     // when the certificate was requested, by the wall clock
}

// errAbandoned: an unfinished order can no longer be finished.
var errAbandoned = errors.New("certmgr: the order cannot be finished")

// resume returns the chain of an unfinished order.
func (c *conversation) resume(ctx context.Context, o *Unfinished) ([][]byte, error) {
	c.res.OrderURL = o.URL
	c.req.Stage(audit.StageFinalize)
	order, err := c.pollOrder(ctx, o.URL, 0, acme.StatusProcessing)
	var chain [][]byte
	if err == nil && order.Status == acme.StatusValid && order.CertURL != "" {
		chain, err = c.client.FetchCert(ctx, order.CertURL, true)
	} else if err == nil {
		err = errAbandoned
	}
	if e, ok := acmeclient.Problem(err); err == errAbandoned || ok && e.StatusCode < http.StatusInternalServerError && !acmeclient.IsRateLimited(err) {
		c.res.Unfinished = nil // the CA no longer knows it
		return nil, errAbandoned
	}
	return chain, acmeclient.Cause(err)
}

// mayBeFinal reports whether the CA may have accepted a certificate request
// despite the failed reply.
func mayBeFinal(err error) bool {
	e, ok := acmeclient.Problem(err)
	return !ok || e.StatusCode >= http.StatusInternalServerError
}
