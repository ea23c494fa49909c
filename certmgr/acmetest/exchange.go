package acmetest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxBody is the largest body of a request, in bytes.
const maxBody = 1 << 20

// exchange is one request being handled.
type exchange struct {
	r        *http.Request
	w        http.ResponseWriter
	endpoint Endpoint
	id       int // of the resource, for numbered endpoints
	body     []byte
	hosts    []string
	entry    *Request        // in the journal
	edits    []*requestFault // of the reply, oldest first

	// Set by authenticate.
	jws     *jws
	key     *publicKey // that signed the request
	account *account   // nil if the request is signed with a jwk
}

// reply is the result of a handler.
type reply struct {
	status   int
	location string
	up       string // target of a Link with rel="up"
	next     string // target of a Link with rel="next"
	pending  bool   // the resource is pending or processing, so that Retry-After applies
	json     any
	raw      []byte // instead of json
	rawType  string

	alternates []string      // targets of Links with rel="alternate"
	retryAfter time.Duration // sent by the CA itself; zero means none
}

// serve handles one request: log, faults, protocol.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if !s.tasks.begin() {
		panic(http.ErrAbortHandler)
	}
	defer s.tasks.end()
	x := &exchange{r: r, w: w}
	x.endpoint, x.id = parsePath(r.URL.Path)
	x.entry = s.journal.begin(r, x.endpoint)
	defer s.endRequest(x.entry)

	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	x.body = body
	x.hosts = s.hostsOf(x)
	account := s.peek(x)
	s.journal.about(x.entry, x.hosts, account)
	if s.misbehave(x, account) {
		return
	}
	s.send(x, s.edit(x, s.handle(x, err)))
}

// handle performs the request and returns the reply. err is the error from
// reading the request's body.
func (s *Server) handle(x *exchange, err error) *Reply {
	if err != nil {
		var tooLarge *http.MaxBytesError
		if !errors.As(err, &tooLarge) {
			panic(http.ErrAbortHandler)
		}
		problem := Problem{Type: "malformed", Status: http.StatusRequestEntityTooLarge, Detail: "the request's body is too large"}
		return s.problemReply(x, problem, nil)
	}
	if problem := s.limitRequest(x); problem != nil {
		// At Let's Encrypt this comes from a load balancer, which sends no
		// nonce.
		return s.problemReply(x, *problem, http.Header{"Replay-Nonce": nil})
	}
	if field := s.changedField(); field != "" {
		return s.problemReply(x, *problemf("malformed", "the CA of the test refuses all requests: %s", changedText(field)), nil)
	}
	rep, problem := s.dispatch(x)
	if problem != nil {
		return s.problemReply(x, *problem, nil)
	}
	return s.successReply(x, rep)
}

// peek extracts from a request's body, unchecked, what the log and the faults
// need. It adds the names of a new order or of a certificate to be revoked to
// x.hosts, and returns the URL of the account.
func (s *Server) peek(x *exchange) (account string) {
	var outer struct{ Protected, Payload string }
	if json.Unmarshal(x.body, &outer) != nil {
		return ""
	}
	account = s.peekAccount(outer.Protected)
	if x.endpoint != NewOrder && x.endpoint != RevokeCert {
		return account
	}
	var payload struct {
		Identifiers []struct{ Value string }
		Certificate string
	}
	if b, err := base64.RawURLEncoding.DecodeString(outer.Payload); err == nil {
		_ = json.Unmarshal(b, &payload)
	}
	if x.endpoint == RevokeCert {
		x.hosts = s.hostsOfCertificate(payload.Certificate)
		return account
	}
	for _, identifier := range payload.Identifiers {
		x.hosts = append(x.hosts, nameSent(identifier.Value))
	}
	return account
}

// peekAccount returns the URL of the account that a protected header names by
// kid, or by a jwk that is an account's key.
func (s *Server) peekAccount(protected string) string {
	var header struct {
		Kid string
		Jwk json.RawMessage
	}
	if b, err := base64.RawURLEncoding.DecodeString(protected); err != nil || json.Unmarshal(b, &header) != nil {
		return ""
	}
	if header.Kid != "" || header.Jwk == nil {
		return header.Kid
	}
	key, err := parseJWK(header.Jwk)
	if err != nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.state.accountByKey[key.thumbprint]; a != nil {
		return s.url(pathAccount, a.id)
	}
	return ""
}

// dispatch checks method and signature and calls the endpoint's handler.
func (s *Server) dispatch(x *exchange) (*reply, *Problem) {
	switch x.endpoint {
	case Unknown:
		return nil, notFound("there is nothing at %s", x.r.URL.Path)
	case Directory, NewNonce, RenewalInfo:
		return s.get(x)
	}
	if x.r.Method != http.MethodPost {
		return nil, methodNotAllowed(x.r.Method, http.MethodPost)
	}
	if problem := s.authenticate(x); problem != nil {
		return nil, problem
	}
	switch x.endpoint {
	case NewAccount:
		return s.newAccount(x)
	case UpdateAccount:
		return s.updateAccount(x)
	case OrdersList:
		return s.listOrders(x)
	case KeyChange:
		return s.keyChange(x)
	case NewOrder:
		return s.newOrder(x)
	case Order:
		return s.getOrder(x)
	case Authorization:
		return s.postAuthorization(x)
	case Challenge:
		return s.postChallenge(x)
	case Finalize:
		return s.finalize(x)
	case Certificate:
		return s.getCertificate(x)
	default:
		return s.revoke(x)
	}
}

// get answers unsigned requests. The directory and newNonce may also be read by
// POST-as-GET (RFC 8555, section 6.3).
func (s *Server) get(x *exchange) (*reply, *Problem) {
	switch method := x.r.Method; {
	case method == http.MethodGet || method == http.MethodHead:
	case x.endpoint == RenewalInfo:
		return nil, methodNotAllowed(method, "GET, HEAD")
	case method != http.MethodPost:
		return nil, methodNotAllowed(method, "GET, HEAD, POST")
	default:
		if problem := s.authenticate(x); problem != nil {
			return nil, problem
		}
		if problem := x.requirePostAsGet(); problem != nil {
			return nil, problem
		}
	}
	switch {
	case x.endpoint == Directory:
		return &reply{status: http.StatusOK, json: s.directory()}, nil
	case x.endpoint == RenewalInfo:
		return s.renewalInfo(x)
	case x.r.Method == http.MethodHead:
		return &reply{status: http.StatusOK}, nil
	default:
		return &reply{status: http.StatusNoContent}, nil
	}
}

func notFound(format string, args ...any) *Problem {
	p := problemf("malformed", format, args...)
	p.Status = http.StatusNotFound
	return p
}

func methodNotAllowed(method, allow string) *Problem {
	p := problemf("malformed", "method %s is not allowed here: use %s (resources are read by POST-as-GET)", method, allow)
	p.Status, p.allow = http.StatusMethodNotAllowed, allow
	return p
}

// directory returns the directory object (RFC 8555, section 7.1.1).
func (s *Server) directory() any {
	meta := map[string]any{"website": "https://acmetest.invalid/"}
	if terms := s.currentTerms(); terms != "" {
		meta["termsOfService"] = terms
	}
	if s.EAB != nil {
		meta["externalAccountRequired"] = true
	}
	if s.Profiles != nil {
		meta["profiles"] = s.profileDescriptions()
	}
	directory := map[string]any{
		"newNonce":   s.base + pathNewNonce,
		"newAccount": s.base + pathNewAccount,
		"newOrder":   s.base + pathNewOrder,
		"revokeCert": s.base + pathRevokeCert,
		"keyChange":  s.base + pathKeyChange,
		"meta":       meta,
	}
	if !s.NoRenewalInfo {
		directory["renewalInfo"] = s.base + strings.TrimSuffix(pathRenewalInfo, "/")
	}
	return directory
}
