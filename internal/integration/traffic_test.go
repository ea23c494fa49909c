package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/nostall/nostall/certmgr/audit"
)

// Pebble's resources, by the first element of their paths.
const (
	newNonce   = "nonce-plz"
	newAccount = "sign-me-up"
	newOrder   = "order-plz"
	authz      = "authZ"
	challenge  = "chalZ"
	finalize   = "finalize-order"
	order      = "my-order"
	certURL    = "certZ"
)

// request is a request to the CA with its reply.
type request struct {
	resource string
	status   int    // HTTP status
	object   string // status of the order, authorization or challenge
	replaces string // the certificate that an order replaces
	problem  string // type of the problem document
}

func (r request) String() string {
	s := fmt.Sprintf("%s %d", r.resource, r.status)
	if r.object != "" {
		s += " " + r.object
	}
	if r.problem != "" {
		s += " " + r.problem
	}
	return s
}

// traffic is a RoundTripper that records all requests to the CA.
type traffic struct {
	next http.RoundTripper

	mu       sync.Mutex
	requests []request
}

func (tr *traffic) RoundTrip(req *http.Request) (*http.Response, error) {
	resource, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	r := request{resource: resource}
	res, err := tr.next.RoundTrip(req)
	if err == nil {
		var body []byte
		body, err = io.ReadAll(res.Body)
		res.Body.Close()
		res.Body = io.NopCloser(bytes.NewReader(body))
		r.status = res.StatusCode
		var doc struct {
			Type     string
			Status   any // a text, or in problems a number
			Replaces string
		}
		if json.Unmarshal(body, &doc) == nil {
			r.object, _ = doc.Status.(string)
			r.replaces = doc.Replaces
			if res.StatusCode >= 400 {
				r.problem = doc.Type
			}
		}
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.requests = append(tr.requests, r)
	return res, err
}

func (tr *traffic) all() []request {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return append([]request(nil), tr.requests...)
}

// reset forgets what was recorded.
func (tr *traffic) reset() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.requests = nil
}

// count returns the number of requests that match.
func (tr *traffic) count(fits func(request) bool) int {
	n := 0
	for _, r := range tr.all() {
		if fits(r) {
			n++
		}
	}
	return n
}

// sent returns the number of requests to a resource.
func (tr *traffic) sent(resource string) int {
	return tr.count(func(r request) bool { return r.resource == resource })
}

// accepted returns the number of successful requests to a resource.
func (tr *traffic) accepted(resource string) int {
	return tr.count(func(r request) bool { return r.resource == resource && r.status < 300 })
}

// refused returns the number of requests answered with a type of problem.
func (tr *traffic) refused(problem string) int {
	return tr.count(func(r request) bool { return r.problem == "urn:ietf:params:acme:error:"+problem })
}

// wantNone fails the test if there was any request.
func (tr *traffic) wantNone(t *testing.T) {
	t.Helper()
	if got := tr.all(); len(got) != 0 {
		t.Errorf("%d requests to the CA, want none: %v", len(got), got)
	}
}

// record is an audit hook that keeps every event. After Close it is complete.
type record struct {
	mu     sync.Mutex
	events []audit.Event
}

func (r *record) hook(_ context.Context, e audit.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *record) all() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]audit.Event(nil), r.events...)
}

// of returns the events of a kind.
func (r *record) of(kind audit.Kind) []audit.Event {
	var events []audit.Event
	for _, e := range r.all() {
		if e.Kind == kind {
			events = append(events, e)
		}
	}
	return events
}
