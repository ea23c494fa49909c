package acmetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// Reply is a reply of the CA that is about to go out. See [Server.Edit].
type Reply struct {
	// Status is the status, from 200 to 999.
	Status int
	// Header are the headers, never nil. A header is left out if it has no values. Content-Length and
	// Transfer-Encoding are ignored: they follow from the body.
	Header http.Header
	// Body is the body. It does not go out in reply to HEAD, nor with a status that has none.
	Body []byte
	// Drop closes the connection without a reply, as the method Drop does.
	Drop bool

	// Request is the entry of the log for the request, as it is now. Changes to it have no effect.
	Request Request
	// URL is what the request was sent to.
	URL string
	// Payload is what the client signed: JSON, or nothing for POST-as-GET. It is nil if the request was not signed, or
	// not well.
	Payload []byte

	ctx     context.Context
	problem *Problem // that the reply is, for the log, or nil
}

// Context ends when the client has left or the server is closed. An edit that waits for something waits for this, too.
func (r *Reply) Context() context.Context { return r.ctx }

// SetProblem makes the reply a problem document, with the Status and Type of p, or those that go with it where they are
// missing.
func (r *Reply) SetProblem(p Problem) {
	p = p.filled()
	r.Status, r.Body = p.Status, mustMarshal(p)
	r.Header.Set("Content-Type", "application/problem+json")
}

// EditObject calls edit with the JSON object that the body is, and makes what edit leaves of it the body. Numbers are of
// type json.Number. It returns false, and does nothing, if the body is no JSON object.
func (r *Reply) EditObject(edit func(object map[string]any)) bool {
	var object map[string]any
	d := json.NewDecoder(bytes.NewReader(r.Body))
	d.UseNumber()
	if d.Decode(&object) != nil || object == nil {
		return false
	}
	edit(object)
	r.Body = mustMarshal(object)
	return true
}

// Edit calls f with the reply to each request that fits m, after the CA has done what was asked for and before the reply
// goes out: an order is made, a certificate issued, the nonce used up, whatever the client is told then. F may change
// status, headers and body, or drop the reply. Refusals such as badNonce are replies, too; what another fault sends
// instead of a reply of the CA is not edited. Where several edits fit, each gets what those before it have left. Truncate
// acts on what comes out.
//
//	// The order is made, but the client is told nothing of it, once.
//	ca.Edit(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, func(r *acmetest.Reply) { r.Drop = true })
//
// F runs in the goroutine of the request, in several of them at the same time if there are such requests, and without a
// lock: it may call all methods of the server but Close, which waits for it. It may wait for something, as long as the
// Context of the reply has not ended; after that nothing goes out. It must not keep the reply. If f panics or leaves a status that no reply has, the client gets a serverInternal
// problem that says so; http.ErrAbortHandler drops the reply. The log shows the fault "edit" for replies that were
// changed, and the status that went out.
func (s *Server) Edit(m Match, f func(r *Reply)) (lift func()) {
	return s.faults.add(&fault{kind: faultEditReply, match: m, edit: f})
}

// edit applies the edits that the request ran into to its reply, but for those that were lifted meanwhile.
func (s *Server) edit(x *exchange, r *Reply) *Reply {
	if len(x.edits) == 0 {
		return r
	}
	r.Body = bytes.Clone(r.Body) // may be the CA's own
	r.Request = s.journal.entry(x.entry)
	r.URL = s.base + x.r.RequestURI
	r.ctx = x.r.Context()
	if x.jws != nil {
		r.Payload = append([]byte{}, x.jws.payload...)
	}
	for _, f := range x.edits {
		select {
		case <-f.lifted:
			continue
		default:
		}
		before := Reply{Status: r.Status, Header: r.Header.Clone(), Body: bytes.Clone(r.Body), Drop: r.Drop}
		if err := r.apply(f.edit); err != nil {
			r.Header, r.Drop = before.Header.Clone(), false
			r.SetProblem(Problem{Type: "serverInternal", Detail: err.Error()})
		}
		if !r.equal(&before) {
			s.journal.fault(x.entry, string(f.kind))
		}
	}
	if r.ctx.Err() != nil { // nobody is there any more
		r.Drop = true
	}
	r.problem = problemIn(r.Status, r.Body)
	return r
}

// apply calls f. The error says that f made a mistake.
func (r *Reply) apply(f func(*Reply)) (err error) {
	defer func() {
		if v := recover(); v == http.ErrAbortHandler {
			r.Drop = true
		} else if v != nil {
			err = fmt.Errorf("acmetest: the function of Edit panicked: %v", v)
		}
	}()
	f(r)
	if !r.Drop && !isStatus(r.Status) {
		return fmt.Errorf("acmetest: the function of Edit left the status %d, which no reply has", r.Status)
	}
	r.Header = canonicalHeader(r.Header)
	return nil
}

// equal reports whether the client sees no difference.
func (r *Reply) equal(other *Reply) bool {
	return r.Status == other.Status && r.Drop == other.Drop && bytes.Equal(r.Body, other.Body) &&
		maps.EqualFunc(withValues(r.Header), withValues(other.Header), slices.Equal[[]string])
}

// withValues is a copy of h without the headers that have no values.
func withValues(h http.Header) http.Header {
	h = maps.Clone(h)
	maps.DeleteFunc(h, func(_ string, values []string) bool { return len(values) == 0 })
	return h
}
