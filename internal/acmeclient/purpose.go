package acmeclient

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// purpose is what a request is for. Limits, retries and the expected response
// depend on it.
type purpose int

const (
	forOther     purpose = iota // a change of an account or an authorization
	forDirectory                // GET of the directory
	forNonce                    // HEAD of newNonce
	forUnsigned                 // any other GET
	forAccount                  // registration
	forLookup                   // newAccount with onlyReturnExisting
	forOrder                    // newOrder
	forObject                   // POST-as-GET of an order or an authorization
	forChain                    // POST-as-GET of a certificate
	forChallenge                // the response to a challenge
	forFinalize                 // a certificate request
	forKeyChange                // account key rollover
	forRevoke                   // revocation
)

const (
	readTimeout  = 10 * time.Second // of a request that changes nothing, and of a challenge's
	writeTimeout = 30 * time.Second // of a request for which the CA may have to work
)

// timeout is the default time-out of one request. A lost request costs at least
// its time-out, and that of a read is short because it is simply repeated. The
// response to a challenge is repeated as simply.
func (p purpose) timeout() time.Duration {
	switch p {
	case forDirectory, forNonce, forUnsigned, forObject, forChain, forChallenge:
		return readTimeout
	}
	return writeTimeout
}

// noun is what the response should be, for errors.
func (p purpose) noun() string {
	switch p {
	case forDirectory:
		return "an ACME directory (RFC 8555)"
	case forAccount, forLookup:
		return "an account"
	case forOrder, forFinalize:
		return "an order"
	case forObject:
		return "an order or authorization"
	case forChain:
		return "a certificate chain"
	case forChallenge:
		return "a challenge"
	}
	return "what was asked for"
}

// signedRequest is a request by POST. x/crypto/acme made and signed it, and
// this package signs it again to repeat it.
type signedRequest struct {
	req     *http.Request // its body is read
	jws     flattenedJWS
	header  map[string]json.RawMessage // protected
	purpose purpose
	e       Endpoint
}

// readSigned reads the body of a POST.
func (t *transport) readSigned(req *http.Request) (*signedRequest, error) {
	body, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	s := &signedRequest{req: setBody(req, body), e: t.endpoint(req.URL.String())}
	protected, payload, err := s.jws.decode(body)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(protected, &s.header); err != nil {
		return nil, err
	}
	s.purpose = purposeOf(s.e, payload)
	if s.purpose == forObject && TraceOf(req.Context()).isCertificate(req.URL.String()) {
		s.purpose = forChain
	}
	return s, nil
}

// purposeOf tells by the endpoint and by the payload, since the URLs of orders
// and of what belongs to them can have any form.
func purposeOf(e Endpoint, payload []byte) purpose {
	switch e {
	case EndpointNewOrder:
		return forOrder
	case EndpointRevokeCert:
		return forRevoke
	case EndpointKeyChange:
		return forKeyChange
	}
	var members map[string]json.RawMessage
	json.Unmarshal(payload, &members)
	switch {
	case e == EndpointNewAccount && members["onlyReturnExisting"] != nil:
		return forLookup
	case e == EndpointNewAccount:
		return forAccount
	case len(payload) == 0:
		return forObject
	case members["csr"] != nil:
		return forFinalize
	case members != nil && len(members) == 0:
		return forChallenge
	}
	return forOther
}

// kid returns the account's URL in the protected header, or "".
func (s *signedRequest) kid() string {
	var kid string
	json.Unmarshal(s.header["kid"], &kid)
	return kid
}

// decode parses a JWS. It returns its protected header and its payload.
func (jws *flattenedJWS) decode(body []byte) (protected, payload []byte, err error) {
	if err := json.Unmarshal(body, jws); err != nil {
		return nil, nil, err
	}
	if protected, err = base64.RawURLEncoding.DecodeString(jws.Protected); err != nil {
		return nil, nil, err
	}
	payload, err = base64.RawURLEncoding.DecodeString(jws.Payload)
	return protected, payload, err
}

// setBody returns a copy of req with this body.
func setBody(req *http.Request, body []byte) *http.Request {
	out := req.Clone(req.Context())
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	out.Body, _ = out.GetBody()
	out.ContentLength = int64(len(body))
	return out
}
