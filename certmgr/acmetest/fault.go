package acmetest

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

type faultKind string

const (
	faultStall   faultKind = "stall"
	faultDelay   faultKind = "delay"
	faultDrop    faultKind = "drop"
	faultStatus  faultKind = "status"
	faultRespond faultKind = "respond"
	faultGarbage faultKind = "garbage"
	faultEndless faultKind = "endless body"

	// These act after the CA has looked at the request.
	faultTruncate  faultKind = "truncate"
	faultEditReply faultKind = "edit"
)

// fault is one thing that goes wrong with requests.
type fault struct {
	kind   faultKind
	match  Match
	lifted chan struct{}

	passed, hits int // guarded by faults.mu: requests that After let pass, and that ran into it

	delay   time.Duration
	problem Problem
	header  http.Header
	status  int    // of faultRespond
	body    string // of faultRespond
	edit    func(*Reply)
}

// pauses reports whether the request goes on after the fault.
func (f *fault) pauses() bool { return f.kind == faultStall || f.kind == faultDelay }

// Stall makes requests hang until the fault is lifted, the request's context ends or the server is closed. A lifted
// request is handled as usual.
//
// Faults act before the CA looks at a request, so its nonce is not used up; Truncate and Edit act after. Where several
// match a request, those that hold it up (Stall, Delay) and edits add up; of the others the oldest counts.
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
	return s.faults.add(&fault{
		kind:   faultRespond,
		match:  m,
		status: code,
		header: canonicalHeader(h),
		body:   body,
	})
}

// isStatus reports whether a reply can have this status.
func isStatus(code int) bool { return code >= 200 && code <= 999 }

func mustBeStatus(code int) {
	if !isStatus(code) {
		panic("acmetest: no reply has the status " + strconv.Itoa(code))
	}
}

// canonicalHeader is a copy of h with the names as net/http writes them. Another spelling of a name takes its place, as a
// test has written it itself. The copy is not nil.
func canonicalHeader(h http.Header) http.Header {
	header := make(http.Header)
	var others []string
	for name, values := range h {
		if http.CanonicalHeaderKey(name) == name {
			header[name] = slices.Clone(values)
		} else {
			others = append(others, name)
		}
	}
	slices.Sort(others) // the same in each run
	for _, name := range others {
		header[http.CanonicalHeaderKey(name)] = slices.Clone(h[name])
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

// misbehave runs the request, which names the account, into the faults that match it, and reports whether that ended it.
func (s *Server) misbehave(x *exchange, account string) (ended bool) {
	for _, f := range s.faults.take(x.endpoint, x.hosts, account) {
		if f.kind == faultEditReply {
			x.edits = append(x.edits, f) // is noted if it changes something
			continue
		}
		s.journal.fault(x.entry, string(f.kind))
		switch f.kind {
		case faultStall, faultDelay:
			f.hold(x.r.Context())
		case faultDrop:
			panic(http.ErrAbortHandler)
		case faultStatus:
			s.send(x, s.problemReply(x, f.problem, f.header))
			return true
		case faultRespond:
			s.send(x, s.replyAsIs(x, f))
			return true
		case faultGarbage:
			garbage := reply{status: http.StatusOK, raw: []byte("<html>\x00\xff{\"status\":"), rawType: "application/json"}
			s.send(x, s.successReply(x, &garbage))
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

// replyAsIs returns the reply that a test made.
func (s *Server) replyAsIs(x *exchange, f *fault) *Reply {
	h := make(http.Header)
	s.addDate(h)
	s.addNonce(x, h)
	maps.Copy(h, f.header)
	body := []byte(f.body)
	return &Reply{Status: f.status, Header: h, Body: body, problem: problemIn(f.status, body)}
}

// problemIn returns the problem document that a reply is, for the log, or nil.
func problemIn(status int, body []byte) *Problem {
	var document struct{ Type, Detail string }
	if status < 400 || json.Unmarshal(body, &document) != nil || document.Type == "" {
		return nil
	}
	return &Problem{Type: document.Type, Detail: document.Detail}
}

// sendEndless writes until the client leaves, the server is closed or the fault is lifted.
func (s *Server) sendEndless(x *exchange, lifted <-chan struct{}) {
	maps.Copy(x.w.Header(), s.commonHeader(x))
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
