package acmetest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// faultKind is what a fault of requests does, named after its method.
type faultKind string

const (
	faultStall   faultKind = "Stall"
	faultDelay   faultKind = "Delay"
	faultDrop    faultKind = "Drop"
	faultStatus  faultKind = "Status"
	faultRespond faultKind = "Respond"
	faultGarbage faultKind = "Garbage"
	faultEndless faultKind = "EndlessBody"
	faultBlocked faultKind = "BlockAccount"

	// These act after the CA has handled the request.
	faultTruncate  faultKind = "Truncate"
	faultEditReply faultKind = "Edit"
)

// requestFault is a fault of requests. To add one, write a method of Server
// that passes its own name and a kind, usually an edit of the reply, to add.
type requestFault struct {
	*Fault
	name  string // of the method; empty means that of the kind
	kind  faultKind
	match Match

	passed, hits int // guarded by faults.mu: requests let pass by After, and selected

	delay   time.Duration
	problem func(Endpoint) Problem
	header  http.Header
	status  int    // of faultRespond
	body    string // of faultRespond
	edit    func(*Reply)
}

// pauses reports whether the request continues after the fault.
func (f *requestFault) pauses() bool { return f.kind == faultStall || f.kind == faultDelay }

// Stall makes requests hang until the fault is lifted, the request's context
// ends or the server is closed. After that a lifted request is handled
// normally.
//
// Faults act before the CA handles a request, so its nonce is not used up;
// Truncate and Edit act afterwards. If several match a request, pauses (Stall,
// Delay) and edits all apply; of the others the oldest applies.
func (s *Server) Stall(m Match) *Fault {
	return s.addFault(&requestFault{kind: faultStall, match: m})
}

// Delay makes requests wait for d, or until the fault is lifted, before they
// are handled.
func (s *Server) Delay(m Match, d time.Duration) *Fault {
	if d <= 0 {
		panic(fmt.Sprintf("acmetest: a delay of %v is none", d))
	}
	return s.addFault(&requestFault{kind: faultDelay, match: m, delay: d})
}

// Drop closes the connection without a reply; in memory the client gets an
// error that wraps io.ErrUnexpectedEOF. Note that net/http's real transport
// itself retries a GET or HEAD that was dropped on a reused connection.
func (s *Server) Drop(m Match) *Fault {
	return s.addFault(&requestFault{kind: faultDrop, match: m})
}

// Status replies with a problem document, this status and these headers (which
// may be nil), for example 429 with Retry-After. The problem's Status is
// replaced by code, and an empty Type is derived from it. Status panics if code
// is not from 200 to 999.
func (s *Server) Status(m Match, code int, h http.Header, problem Problem) *Fault {
	mustBeStatus(code)
	problem.Status = code
	always := func(Endpoint) Problem { return problem }
	return s.addFault(&requestFault{kind: faultStatus, match: m, problem: always, header: canonicalHeader(h)})
}

// Respond replies with this status, from 200 to 999, these headers (which may
// be nil) and this body, whatever they are: an invalid order, a redirect, an
// incomplete directory. The CA does not act on the request.
//
// It adds the headers that HTTP needs, and a valid Replay-Nonce where RFC 8555,
// section 6.5, requires one: on replies to POST and of newNonce. A Replay-Nonce
// in h replaces it; one without values, as in http.Header{"Replay-Nonce": nil},
// suppresses it. A Content-Length in h is ignored. Respond panics if the status
// is invalid.
func (s *Server) Respond(m Match, code int, h http.Header, body string) *Fault {
	mustBeStatus(code)
	return s.addFault(&requestFault{
		kind:   faultRespond,
		match:  m,
		status: code,
		header: canonicalHeader(h),
		body:   body,
	})
}

// isStatus reports whether code is a valid status of a reply.
func isStatus(code int) bool { return code >= 200 && code <= 999 }

func mustBeStatus(code int) {
	if !isStatus(code) {
		panic("acmetest: no reply has the status " + strconv.Itoa(code))
	}
}

// canonicalHeader returns a copy of h, not nil, with canonical names. A name in
// another spelling overrides the canonical one, since the test wrote it
// explicitly.
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
	slices.Sort(others) // for a deterministic result
	for _, name := range others {
		header[http.CanonicalHeaderKey(name)] = slices.Clone(h[name])
	}
	return header
}

// Garbage replies with status 200 and bytes that are not JSON.
func (s *Server) Garbage(m Match) *Fault {
	return s.addFault(&requestFault{kind: faultGarbage, match: m})
}

// EndlessBody replies with status 200 and a JSON string that continues until
// the fault is lifted, the request's context ends or the server is closed.
func (s *Server) EndlessBody(m Match) *Fault {
	return s.addFault(&requestFault{kind: faultEndless, match: m})
}

// misbehave applies the matching faults to the request, which names the
// account. It reports whether that ended the request.
func (s *Server) misbehave(x *exchange, account string) (ended bool) {
	for _, f := range s.faults.take(x.endpoint, x.hosts, account) {
		if f.kind == faultEditReply {
			x.edits = append(x.edits, f) // logged only if it changes something
			continue
		}
		s.noteFault(x, f)
		switch f.kind {
		case faultStall, faultDelay:
			f.hold(x.r.Context())
		case faultDrop:
			panic(http.ErrAbortHandler)
		case faultStatus, faultBlocked:
			s.send(x, s.problemReply(x, f.problem(x.endpoint), f.header))
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

// noteFault records that a fault acts on the request.
func (s *Server) noteFault(x *exchange, f *requestFault) {
	f.acted.Add(1)
	s.journal.fault(x.entry, f.name)
}

// hold waits as the fault requires. A request whose context ends is dropped.
func (f *requestFault) hold(ctx context.Context) {
	var after <-chan time.Time // nil (never) for a stall
	if f.kind == faultDelay {
		timer := time.NewTimer(f.delay)
		defer timer.Stop()
		after = timer.C
	}
	if !f.holdUp(ctx, after) {
		panic(http.ErrAbortHandler)
	}
}

// holdUp waits until the fault is lifted or after. It returns false if the
// context ends first.
func (f *Fault) holdUp(ctx context.Context, after <-chan time.Time) bool {
	select {
	case <-f.lifted:
		return true
	case <-after:
		return true
	case <-ctx.Done():
		return false
	}
}

// replyAsIs returns the reply that the test specified.
func (s *Server) replyAsIs(x *exchange, f *requestFault) *Reply {
	h := make(http.Header)
	s.addDate(h)
	s.addNonce(x, h)
	maps.Copy(h, f.header)
	body := []byte(f.body)
	return &Reply{Status: f.status, Header: h, Body: body, problem: problemIn(f.status, body)}
}

// problemIn returns the problem document in a reply, for the log, or nil.
func problemIn(status int, body []byte) *Problem {
	var document struct{ Type, Detail string }
	if status < 400 || json.Unmarshal(body, &document) != nil || document.Type == "" {
		return nil
	}
	return &Problem{Type: document.Type, Detail: document.Detail}
}

// sendEndless writes until the client leaves, the server is closed or the fault
// is lifted.
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
