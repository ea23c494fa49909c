package certmgr_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

const (
	html = "<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body>Please log in.</body></html>"

	lostHost = "a.example.com"
	readOut  = 10 * time.Second // time-outs of the requests, by what they do
	writeOut = 30 * time.Second
)

// step is one exchange of an issuance.
type step struct {
	name     string
	endpoint acmetest.Endpoint
	after    int               // requests to the endpoint that precede it
	timeout  time.Duration     // of its request
	made     acmetest.Endpoint // whose success makes the resource, or empty
}

func (s step) match() acmetest.Match {
	return acmetest.Match{Endpoint: s.endpoint, After: s.after, Count: 1}
}

// issuanceSteps are all exchanges of a first issuance, in order.
func issuanceSteps() []step {
	return []step{
		{"directory", acmetest.Directory, 0, readOut, ""},
		{"newNonce", acmetest.NewNonce, 0, readOut, ""},
		{"newAccount", acmetest.NewAccount, 0, writeOut, ""},
		{"newOrder", acmetest.NewOrder, 0, writeOut, acmetest.NewAccount},
		{"authorization", acmetest.Authorization, 0, readOut, acmetest.NewOrder},
		{"challenge", acmetest.Challenge, 0, readOut, acmetest.NewOrder},
		{"authorization poll", acmetest.Authorization, 1, readOut, acmetest.NewOrder},
		{"finalize", acmetest.Finalize, 0, writeOut, acmetest.Challenge},
		{"order poll", acmetest.Order, 0, readOut, acmetest.Challenge},
		{"certificate", acmetest.Certificate, 0, readOut, acmetest.Finalize},
	}
}

// exchangeFault is what can happen to one exchange.
type exchangeFault struct {
	name   string
	begin  func(ca *acmetest.Server, s step)
	silent bool                           // it takes the whole time-out
	acted  bool                           // the CA does what it was asked for
	no     func(e acmetest.Endpoint) bool // endpoints where it cannot happen
}

func edited(edit func(r *acmetest.Reply)) func(*acmetest.Server, step) {
	return func(ca *acmetest.Server, s step) { ca.Edit(s.match(), edit) }
}

func refused(status int, retryAfter string) func(*acmetest.Server, step) {
	h := http.Header{}
	if retryAfter != "" {
		h.Set("Retry-After", retryAfter)
	}
	return func(ca *acmetest.Server, s step) { ca.Status(s.match(), status, h, acmetest.Problem{}) }
}

func oneOf(list ...acmetest.Endpoint) func(acmetest.Endpoint) bool {
	return func(e acmetest.Endpoint) bool { return slices.Contains(list, e) }
}

// exchangeFaults are all of them.
func exchangeFaults() []exchangeFault {
	unsigned := oneOf(acmetest.Directory, acmetest.NewNonce)
	head := oneOf(acmetest.NewNonce) // its responses have no body
	return []exchangeFault{
		{name: "dropped before the CA acted", begin: func(ca *acmetest.Server, s step) { ca.Drop(s.match()) }},
		{name: "dropped after the CA acted", begin: edited(func(r *acmetest.Reply) { r.Drop = true }), acted: true},
		{name: "reset in the body", begin: func(ca *acmetest.Server, s step) { ca.Truncate(s.match()) }, acted: true},
		{name: "500", begin: refused(500, "")},
		{name: "500 after the CA acted", begin: edited(func(r *acmetest.Reply) { r.SetProblem(acmetest.Problem{Status: 500}) }), acted: true},
		{name: "502 with HTML after the CA acted", begin: edited(func(r *acmetest.Reply) { r.Status, r.Body = 502, []byte(html) }), acted: true},
		{name: "503 with Retry-After 1", begin: refused(503, "1")},
		{name: "429 with Retry-After 1", begin: refused(429, "1")},
		{name: "429 without Retry-After", begin: refused(429, "")},
		{name: "truncated JSON", begin: edited(func(r *acmetest.Reply) { r.Body = r.Body[:len(r.Body)/2] }), acted: true, no: head},
		{name: "HTML with 200", begin: func(ca *acmetest.Server, s step) {
			ca.Respond(s.match(), 200, http.Header{"Content-Type": {"text/html"}, "Replay-Nonce": nil}, html)
		}},
		{name: "HTML with 200 after the CA acted", begin: edited(func(r *acmetest.Reply) { r.Status, r.Body = 200, []byte(html) }), acted: true, no: head},
		{name: "empty 200", begin: func(ca *acmetest.Server, s step) {
			ca.Respond(s.match(), 200, http.Header{"Replay-Nonce": nil}, "")
		}},
		{name: "204 after the CA acted", begin: edited(func(r *acmetest.Reply) { r.Status = 204 }), acted: true, no: head},
		{name: "badNonce twice", no: unsigned, begin: func(ca *acmetest.Server, s step) {
			m := s.match()
			m.Count = 2
			ca.Status(m, 400, nil, acmetest.Problem{Type: "badNonce"})
		}},
		{name: "unknown for 2 s after it was made", begin: unknownFor2s, no: oneOf(acmetest.Directory, acmetest.NewNonce, acmetest.NewAccount)},
		{name: "silence", begin: func(ca *acmetest.Server, s step) { ca.Stall(s.match()) }, silent: true},
		{name: "silence after the CA acted", begin: edited(func(r *acmetest.Reply) { <-r.Context().Done() }), silent: true, acted: true},
	}
}

// unknownFor2s has a replica of the CA answer that has not heard of what the
// step is about.
func unknownFor2s(ca *acmetest.Server, s step) {
	status, problem := http.StatusNotFound, acmetest.Problem{Type: "malformed"}
	if s.endpoint == acmetest.NewOrder {
		status, problem = http.StatusBadRequest, acmetest.Problem{Type: "accountDoesNotExist"}
	}
	ca.Edit(acmetest.Match{Endpoint: s.made, Count: 1}, func(*acmetest.Reply) {
		time.AfterFunc(2*time.Second, ca.Status(acmetest.Match{Endpoint: s.endpoint, After: s.after}, status, nil, problem).Lift)
	})
}

// A fault in one exchange costs a host seconds, and no second order if the
// first can be found again. An order whose URL did not arrive cannot.
func TestOneLostExchangeCostsSeconds(t *testing.T) {
	t.Parallel()
	for _, s := range issuanceSteps() {
		for _, f := range exchangeFaults() {
			if f.no != nil && f.no(s.endpoint) {
				continue
			}
			t.Run(s.name+"/"+f.name, func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) { costsSeconds(t, w, s, f) })
			})
		}
	}
}

func costsSeconds(t *testing.T, w *world, s step, f exchangeFault) {
	t.Helper()
	w.m.HandshakeWait = -1
	f.begin(w.ca, s)
	begin := time.Now()
	var err error
	for time.Since(begin) < time.Hour {
		if _, err = w.get(lostHost); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	limit, orders := 15*time.Second, 1
	if f.silent {
		limit = s.timeout + 5*time.Second
	}
	if f.acted && s.endpoint == acmetest.NewOrder {
		orders = 2
	}
	if took := time.Since(begin); err != nil || took > limit {
		t.Errorf("it cost the host %v, want %v at most: %v", took, limit, err)
	}
	if n := len(w.ca.Orders()); n > orders {
		t.Errorf("%d orders, want %d at most", n, orders)
	}
	if n := len(w.ca.Issued()); n != 1 {
		t.Errorf("%d certificates issued, want 1", n)
	}
	if h := w.m.Snapshot().Hosts; len(h) == 0 || h[0].State != certmgr.StateValid {
		t.Errorf("the host's state: %v", h)
	}
	if n := w.ca.Count(s.endpoint); n < s.after+2 && !(f.acted && s.endpoint == acmetest.Finalize) {
		t.Errorf("%d requests to %s: the fault did not act", n, s.endpoint)
	}
}
