package acmeclient

import (
	"context"
	"encoding/base64"
	"encoding/json"

	"golang.org/x/crypto/acme"
)

// PostCSR sends a certificate request (DER) to the order's finalize URL, and no more. It
// returns the order's status; the certificate's URL is had from the order itself. Errors
// are as Cause returns them.
//
// acme.Client.CreateCertFromOrder would poll as well, once a second at the quickest and
// with no bound. Accept posts any payload to any URL of the CA, and reads the status and
// the error that an order has in common with a challenge.
func PostCSR(ctx context.Context, client *acme.Client, order *acme.Order, csr []byte) (status string, err error) {
	payload, err := json.Marshal(map[string]string{"csr": base64.RawURLEncoding.EncodeToString(csr)})
	if err != nil {
		return "", err
	}
	reply, err := client.Accept(ctx, &acme.Challenge{URI: order.FinalizeURL, Payload: payload})
	if err != nil {
		return "", Cause(err)
	}
	return reply.Status, nil
}
