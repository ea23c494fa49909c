package acmeclient

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // SHA-256 for signatures
	_ "crypto/sha512" // SHA-384 and SHA-512
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"sync/atomic"
)

// replaces holds the replaces field of an order placed under a context, and its
// outcome. It belongs to one call of NewOrder.
type replaces struct {
	certID string
	key    crypto.Signer // the account key

	sent    atomic.Bool  // the field was sent to the CA
	failed  atomic.Int32 // number of 5xx responses to that
	without atomic.Bool  // the order was sent without the field after too many failures
}

type replacesKey struct{}

// maxReplacesFailures is how many 5xx responses an order with replaces may get
// before the field is left out. One may be an accident.
const maxReplacesFailures = 2

// post sends a newOrder request, with the field unless the CA has failed too
// often on it.
func (r *replaces) post(t *transport, req *http.Request) (*http.Response, error) {
	if !t.ca.offersRenewalInfo() {
		return t.exchange(req, forOrder, EndpointNewOrder)
	}
	if r.failed.Load() >= maxReplacesFailures {
		r.without.Store(true)
		return t.exchange(req, forOrder, EndpointNewOrder)
	}
	req, err := withReplaces(req, r)
	if err != nil {
		return nil, err
	}
	r.sent.Store(true)
	res, err := t.exchange(req, forOrder, EndpointNewOrder)
	if err == nil && res.StatusCode >= http.StatusInternalServerError && kindOf(problemType(res)) != "ratelimited" {
		r.failed.Add(1)
	}
	return res, err
}

// withReplaces returns the newOrder request with the field added and signed
// again under the same protected header. x/crypto/acme cannot set the field:
// its OrderOption is sealed.
func withReplaces(req *http.Request, r *replaces) (*http.Request, error) {
	body, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	if body, err = r.sign(body); err != nil {
		return nil, fmt.Errorf("adding replaces to the order: %w", err)
	}
	return setBody(req, body), nil
}

// flattenedJWS is a JWS in flattened JSON serialization (RFC 7515, section
// 7.2.2).
type flattenedJWS struct {
	Protected string `json:"protected"`
	Payload   string `json:"payload"`
	Signature string `json:"signature"`
}

// sign returns the JWS in body with the field added to its payload.
func (r *replaces) sign(body []byte) ([]byte, error) {
	var jws flattenedJWS
	protected, payload, err := jws.decode(body)
	if err != nil {
		return nil, err
	}
	var header struct{ Alg string }
	members := make(map[string]json.RawMessage)
	if err := errors.Join(json.Unmarshal(protected, &header), json.Unmarshal(payload, &members)); err != nil {
		return nil, err
	}
	if members["replaces"], err = json.Marshal(r.certID); err != nil {
		return nil, err
	}
	if payload, err = json.Marshal(members); err != nil {
		return nil, err
	}
	jws.Payload = base64.RawURLEncoding.EncodeToString(payload)
	signature, err := signJWS(r.key, header.Alg, []byte(jws.Protected+"."+jws.Payload))
	if err != nil {
		return nil, err
	}
	jws.Signature = base64.RawURLEncoding.EncodeToString(signature)
	return json.Marshal(jws)
}

// signJWS signs with one of the algorithms that x/crypto/acme uses (RFC 7518,
// sections 3.3 and 3.4).
func signJWS(key crypto.Signer, alg string, input []byte) ([]byte, error) {
	hash, ok := map[string]crypto.Hash{
		"RS256": crypto.SHA256, "ES256": crypto.SHA256, "ES384": crypto.SHA384, "ES512": crypto.SHA512,
	}[alg]
	if !ok {
		return nil, fmt.Errorf("signature algorithm %q is not supported", alg)
	}
	h := hash.New()
	h.Write(input)
	signature, err := key.Sign(rand.Reader, h.Sum(nil), hash)
	if err != nil {
		return nil, fmt.Errorf("the account key cannot sign: %w", err)
	}
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		return signature, nil
	case *ecdsa.PublicKey:
		// A crypto.Signer returns ASN.1; a JWS concatenates the two numbers.
		var rs struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(signature, &rs); err != nil {
			return nil, fmt.Errorf("the account key's signature cannot be read: %w", err)
		}
		size := (pub.Curve.Params().BitSize + 7) / 8
		return append(rs.R.FillBytes(make([]byte, size)), rs.S.FillBytes(make([]byte, size))...), nil
	default:
		return nil, fmt.Errorf("account keys of type %T are not supported", pub)
	}
}
