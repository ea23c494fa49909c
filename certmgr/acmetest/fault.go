package acmetest

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Match says which requests a fault is for.
type Match struct {
	// Endpoint is the endpoint; Any, the zero value, is every one.
	Endpoint Endpoint
	// Host is a name, or a wildcard as in Resolve, that the request is about: the names of the order, authorization
	// or certificate. Empty means any request, also those that are about no name.
	Host string
	// Count is how many requests the fault hits before it ends by itself; zero means until it is lifted.
	Count int
}

func (m Match) fits(e Endpoint, hosts []string) bool {
	if m.Endpoint != Any && m.Endpoint != e {
		return false
	}
	return m.Host == "" || slices.ContainsFunc(hosts, func(host string) bool { return matchName(m.Host, host) })
}

type faultKind string

const (
	faultStall   faultKind = "stall"
	faultDelay   faultKind = "delay"
	faultDrop    faultKind = "drop"
	faultStatus  faultKind = "status"
	faultRespond faultKind = "respond"
	faultGarbage faultKind = "garbage"
	faultEndless faultKind = "endless body"

	faultTruncate faultKind = "truncate"
)

// fault is one thing that goes wrong with requests.
type fault struct {
	kind   faultKind
	match  Match
	lifted chan struct{}
	hits   int // guarded by faults.mu

	delay   time.Duration
	problem Problem
	header  http.Header
	status  int    // of faultRespond
	body    string // of faultRespond
}

// pauses reports whether the request goes on after the fault.
func (f *fault) pauses() bool { return f.kind == faultStall || f.kind == faultDelay }

// faults are the faults that are in force, oldest first.
type faults struct {
	mu         sync.Mutex
	list       []*fault
	retryAfter map[Endpoint]string
}

func (fs *faults) add(f *fault) (lift func()) {
	f.lifted = make(chan struct{})
	f.match.Host = strings.ToLower(f.match.Host)
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = append(fs.list, f)
	return sync.OnceFunc(func() {
		fs.mu.Lock()
		fs.list = slices.DeleteFunc(fs.list, func(g *fault) bool { return g == f })
		fs.mu.Unlock()
		close(f.lifted)
	})
}

// take returns the faults that a request runs into, in order: those that hold it up, then the one that ends it, if any.
func (fs *faults) take(e Endpoint, hosts []string) []*fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = slices.DeleteFunc(fs.list, func(f *fault) bool { return f.match.Count > 0 && f.hits == f.match.Count })
	var hit []*fault
	var last *fault
	for _, f := range fs.list {
		if !f.match.fits(e, hosts) || last != nil && !f.pauses() {
			continue
		}
		f.hits++
		if f.pauses() {
			hit = append(hit, f)
		} else {
			last = f
		}
	}
	if last != nil {
		hit = append(hit, last)
	}
	return hit
}

// Stall makes requests hang until the fault is lifted, the request's context ends or the server is closed. A lifted
// request is handled as usual.
//
// Faults act before the CA looks at a request, so its nonce is not used up. Where several match a request, those
// that hold it up (Stall, Delay) add up; of the others the oldest counts.
func (s *Server) Stall(m Match) (lift func()) {
	return s.faults.add(&fault{kind: faultStall, match: m})
}

// Delay makes requests wait for d (or until the fault is lifted) before they are handled.
func (s *Server) Delay(m Match, d time.Duration) (lift func()) {
	return s.faults.add(&fault{kind: faultDelay, match: m, delay: d})
}

// Drop closes the connection without a reply; in memory the client gets an error that wraps io.ErrUnexpectedEOF.
// Note that net/http's real transport by itself repeats a GET or HEAD that was dropped on a reused connection.
func (s *Server) Drop(m Match) (lift func()) {
	return s.faults.add(&fault{kind: faultDrop, match: m})
}

// Status answers with a problem document, this status and these headers (which may be nil), for example 429 with
// Retry-After. The problem's Status is replaced by code; a Type that is empty is chosen by it. Status panics if code is
// not from 200 to 999, as a test cannot go on then.
func (s *Server) Status(m Match, code int, h http.Header, problem Problem) (lift func()) {
	mustBeStatus(code)
	problem.Status = code
	return s.faults.add(&fault{kind: faultStatus, match: m, problem: problem, header: canonicalHeader(h)})
}

// Respond answers with this status, from 200 to 999, these headers (which may be nil) and this body, whatever they are:
// an order that no CA should send, a redirect, a directory that lacks something. The CA does nothing else with the
// request.
//
// To the headers it adds those that HTTP needs and a good Replay-Nonce where RFC 8555, section 6.5, wants one: on
// replies to POST and of newNonce. A Replay-Nonce in h takes its place; one without values, as in
// http.Header{"Replay-Nonce": nil}, leaves it out. A Content-Length in h is ignored. Respond panics if there is no
// such status, as a test cannot go on then.
func (s *Server) Respond(m Match, code int, h http.Header, body string) (lift func()) {
	mustBeStatus(code)
	return s.faults.add(&fault{kind: faultRespond, match: m, status: code, header: canonicalHeader(h), body: body})
}

func mustBeStatus(code int) {
	if code < 200 || code > 999 {
		panic("acmetest: no reply has the status " + strconv.Itoa(code))
	}
}

// canonicalHeader is a copy of h with the names as net/http writes them. It is not nil.
func canonicalHeader(h http.Header) http.Header {
	header := make(http.Header)
	for name, values := range h {
		header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
	return header
}

// Garbage answers with status 200 and bytes that are not JSON.
func (s *Server) Garbage(m Match) (lift func()) {
	return s.faults.add(&fault{kind: faultGarbage, match: m})
}

// EndlessBody answers with status 200 and a JSON string that does not end before the fault is lifted, the request's
// context ends or the server is closed.
func (s *Server) EndlessBody(m Match) (lift func()) {
	return s.faults.add(&fault{kind: faultEndless, match: m})
}

// misbehave runs the request into the faults that match it, and reports whether that ended it.
func (s *Server) misbehave(x *exchange) (ended bool) {
	for _, f := range s.faults.take(x.endpoint, x.hosts) {
		s.journal.fault(x.entry, string(f.kind))
		switch f.kind {
		case faultStall, faultDelay:
			f.hold(x.r.Context())
		case faultDrop:
			panic(http.ErrAbortHandler)
		case faultStatus:
			s.sendProblem(x, f.problem, f.header)
			return true
		case faultRespond:
			s.sendAsIs(x, f.status, f.header, f.body)
			return true
		case faultGarbage:
			s.answer(x, &reply{status: http.StatusOK, raw: []byte("<html>\x00\xff{\"status\":"), rawType: "application/json"})
			return true
		case faultEndless:
			s.sendEndless(x, f.lifted)
			return true
		case faultTruncate:
			x.w = &truncatingWriter{ResponseWriter: x.w}
		}
	}
	return false
}

// hold waits as the fault says. A request whose context ends is dropped.
func (f *fault) hold(ctx context.Context) {
	var after <-chan time.Time // nil, so never, for a stall
	if f.kind == faultDelay {
		timer := time.NewTimer(f.delay)
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-f.lifted:
	case <-after:
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	}
}

// sendAsIs sends the reply that a test made.
func (s *Server) sendAsIs(x *exchange, status int, header http.Header, body string) {
	h := x.w.Header()
	h["Content-Type"] = nil // else net/http guesses one
	s.addDate(x)
	s.addNonce(x)
	maps.Copy(h, header)
	h.Del("Content-Length") // net/http knows it
	s.journal.status(x.entry, status, problemIn(status, body))
	x.w.WriteHeader(status)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		_, _ = x.w.Write([]byte(body))
	}
}

// problemIn returns the problem document that a reply is, for the log, or nil.
func problemIn(status int, body string) *Problem {
	var document struct{ Type, Detail string }
	if status < 400 || json.Unmarshal([]byte(body), &document) != nil || document.Type == "" {
		return nil
	}
	return &Problem{Type: document.Type, Detail: document.Detail}
}

// sendEndless writes until the client leaves, the server is closed or the fault is lifted.
func (s *Server) sendEndless(x *exchange, lifted <-chan struct{}) {
	s.commonHeaders(x)
	x.w.Header().Set("Content-Type", "application/json")
	s.journal.status(x.entry, http.StatusOK, nil)
	x.w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(x.w).Flush
	chunk := `{"endless":"`
	for x.r.Context().Err() == nil {
		if _, err := x.w.Write([]byte(chunk)); err != nil {
			return
		}
		if err := flush(); err != nil {
			return
		}
		select {
		case <-lifted:
			_, _ = x.w.Write([]byte(`"}`))
			return
		default:
		}
		chunk = strings.Repeat("a", 16<<10)
	}
}
