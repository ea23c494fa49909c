package sim

import (
	"net/http"
	"slices"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// place is an exchange of an issuance: the request to an endpoint after some
// others.
type place struct {
	endpoint acmetest.Endpoint
	after    int
	timeout  time.Duration     // of its request
	made     acmetest.Endpoint // whose success makes what it asks for, or empty
}

const (
	readTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
)

// places are all exchanges of a first issuance.
var places = []place{
	{acmetest.Directory, 0, readTimeout, ""},
	{acmetest.NewNonce, 0, readTimeout, ""},
	{acmetest.NewAccount, 0, writeTimeout, ""},
	{acmetest.NewOrder, 0, writeTimeout, ""},
	{acmetest.Authorization, 0, readTimeout, acmetest.NewOrder},
	{acmetest.Challenge, 0, readTimeout, acmetest.NewOrder},
	{acmetest.Authorization, 1, readTimeout, acmetest.NewOrder},
	{acmetest.Finalize, 0, writeTimeout, acmetest.Challenge},
	{acmetest.Order, 0, readTimeout, acmetest.Challenge},
	{acmetest.Certificate, 0, readTimeout, acmetest.Finalize},
}

// isUnsigned reports whether requests to p are not signed, and are about no
// host.
func (p place) isUnsigned() bool {
	return p.endpoint == acmetest.Directory || p.endpoint == acmetest.NewNonce
}

// match selects count requests, or all from the place on if it is 0.
func (p place) match(count int) acmetest.Match {
	return acmetest.Match{Endpoint: p.endpoint, After: p.after, Count: count}
}

// exchangeFault is what can happen to one exchange.
type exchangeFault struct {
	name   string
	begin  func(ca *acmetest.Server, p place, m acmetest.Match) (undo func())
	silent bool             // it takes the whole time-out
	not    func(place) bool // where it cannot happen
}

// exchangeFaults are all of them.
var exchangeFaults = []exchangeFault{
	{name: "dropped before the CA acted", begin: func(ca *acmetest.Server, _ place, m acmetest.Match) func() { return ca.Drop(m).Lift }},
	{name: "dropped after the CA acted", begin: func(ca *acmetest.Server, _ place, m acmetest.Match) func() { return ca.DropReply(m).Lift }},
	{name: "reset in the body", begin: func(ca *acmetest.Server, _ place, m acmetest.Match) func() { return ca.Truncate(m).Lift }},
	{name: "500", begin: refused(http.StatusInternalServerError, "")},
	{name: "503 with Retry-After 1", begin: refused(http.StatusServiceUnavailable, "1")},
	{name: "429 with Retry-After 1", begin: refused(http.StatusTooManyRequests, "1")},
	{name: "429", begin: refused(http.StatusTooManyRequests, "")},
	{name: "truncated JSON", begin: edited(func(r *acmetest.Reply) { r.Body = r.Body[:len(r.Body)/2] }), not: hasNoBody},
	{name: "HTML with 200", begin: gateway(http.StatusOK)},
	{name: "HTML with 502", begin: gateway(http.StatusBadGateway)},
	{name: "HTML with 504, after the CA acted", begin: gateway(http.StatusGatewayTimeout)},
	{name: "empty 200", begin: empty},
	{name: "no Location", begin: func(ca *acmetest.Server, _ place, m acmetest.Match) func() { return ca.NoLocation(m).Lift }},
	{name: "503 with a date as Retry-After", begin: refusedUntil},
	{name: "badNonce twice", begin: badNonces, not: place.isUnsigned},
	{name: "unknown for 2 s after it was made", begin: unknownFor2s, not: func(p place) bool { return p.made == "" }},
	{name: "silence", begin: func(ca *acmetest.Server, _ place, m acmetest.Match) func() { return ca.Stall(m).Lift }, silent: true},
	{name: "silence after the CA acted", begin: edited(func(r *acmetest.Reply) { <-r.Context().Done() }), silent: true},
}

// hasNoBody reports whether replies have no body, as to HEAD.
func hasNoBody(p place) bool { return p.endpoint == acmetest.NewNonce }

func edited(edit func(*acmetest.Reply)) func(*acmetest.Server, place, acmetest.Match) func() {
	return func(ca *acmetest.Server, _ place, m acmetest.Match) func() { return ca.Edit(m, edit).Lift }
}

func refused(status int, retryAfter string) func(*acmetest.Server, place, acmetest.Match) func() {
	h := http.Header{}
	if retryAfter != "" {
		h.Set("Retry-After", retryAfter)
	}
	return func(ca *acmetest.Server, _ place, m acmetest.Match) func() {
		return ca.Status(m, status, h, acmetest.Problem{Detail: "a moment, please"}).Lift
	}
}

// refusedUntil asks the client to wait until about a second later.
func refusedUntil(ca *acmetest.Server, _ place, m acmetest.Match) func() {
	return ca.Edit(m, func(r *acmetest.Reply) {
		date, err := http.ParseTime(r.Header.Get("Date"))
		must(err)
		r.SetProblem(acmetest.Problem{Status: http.StatusServiceUnavailable, Detail: "a moment, please"})
		r.Header.Set("Retry-After", date.Add(2*time.Second).Format(http.TimeFormat))
	}).Lift
}

func gateway(status int) func(*acmetest.Server, place, acmetest.Match) func() {
	return func(ca *acmetest.Server, _ place, m acmetest.Match) func() { return ca.GatewayPage(m, status).Lift }
}

func empty(ca *acmetest.Server, _ place, m acmetest.Match) func() {
	return ca.Respond(m, http.StatusOK, http.Header{"Content-Type": {"text/html"}, "Replay-Nonce": nil}, "").Lift
}

func badNonces(ca *acmetest.Server, _ place, m acmetest.Match) func() {
	m.Count *= 2
	return ca.Status(m, http.StatusBadRequest, nil, acmetest.Problem{Type: "badNonce"}).Lift
}

// unknownFor2s has a replica of the CA reply that has not heard yet of what is
// asked for.
func unknownFor2s(ca *acmetest.Server, p place, m acmetest.Match) func() {
	return ca.Edit(acmetest.Match{Endpoint: p.made, Host: m.Host, Count: 1}, func(*acmetest.Reply) {
		m.Count = 0
		time.AfterFunc(2*time.Second, ca.Status(m, http.StatusNotFound, nil, acmetest.Problem{Type: "malformed", Detail: "no such resource"}).Lift)
	}).Lift
}

// oddChains are ways to send a chain that can be served all the same.
var oddChains = []func(chain [][]byte) [][]byte{
	func(chain [][]byte) [][]byte { slices.Reverse(chain); return chain },
	func(chain [][]byte) [][]byte { return append(chain, chain...) },
	func(chain [][]byte) [][]byte { return append(chain[1:], chain[0]) },
}
