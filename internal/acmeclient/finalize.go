package acmeclient

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"time"

	"golang.org/x/crypto/acme"
)

// PostCSR sends a certificate request (DER) to the order's finalize URL. It
// returns the order's status; the URL of the certificate is in the order
// itself. accepted is false if the status comes from a look at the order after
// a lost reply: then another process with the account may have finalized it.
// Errors are as from Cause.
//
// If it is not known whether the CA received the request, the order tells: the
// request is sent again while the order is ready. That is safe, since the CA
// refuses a second request for an order that it has accepted (RFC 8555, section
// 7.4), and the key is the same.
//
// acme.Client.CreateCertFromOrder would poll as well, at least once a second
// and without a limit. Accept can post any payload to any URL of the CA, and
// decodes the status, which orders and challenges have in common.
func PostCSR(ctx context.Context, client *acme.Client, order *acme.Order, csr []byte) (status string, accepted bool, err error) {
	payload, err := json.Marshal(map[string]string{"csr": base64.RawURLEncoding.EncodeToString(csr)})
	if err != nil {
		return "", false, err
	}
	for n := 1; ; n++ {
		reply, err := client.Accept(ctx, &acme.Challenge{URI: order.FinalizeURL, Payload: payload})
		if err == nil {
			return reply.Status, true, nil
		}
		err = Cause(err)
		wait := finalizeWait(n, err)
		if !again(ctx, wait) {
			return "", false, err
		}
		now, lookErr := client.GetOrder(ctx, order.URI)
		if lookErr != nil {
			return "", false, err
		}
		if now.Status != acme.StatusReady && now.Status != acme.StatusPending {
			return now.Status, false, nil
		}
	}
}

// finalizeWait returns how long to wait after the nth failure before the order
// is looked at, or 0 if the failure is the CA's decision.
func finalizeWait(n int, err error) time.Duration {
	if n > maxServerRetries {
		return 0
	}
	problem, ok := Problem(err)
	switch {
	case !ok:
		failed, isRequest := err.(*RequestError)
		if !isRequest || failed.lasts() || failed.late() && n > 1 {
			return 0
		}
	case problem.StatusCode >= http.StatusInternalServerError:
		if d, asked := RetryAfter(problem.Header, time.Now()); asked {
			if d > maxObeyed {
				return 0
			}
			return d + rand.N(retryStep)
		}
	case n == 1 || kindOf(problem.ProblemType) != "ordernotready": // after a lost response: it was accepted
		return 0
	}
	return jitter(retryStep << (n - 1))
}
