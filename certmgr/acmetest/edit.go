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

// Reply is a reply of the CA before it is sent. See [Server.Edit].
type Reply struct {
	// Status is the HTTP status, from 200 to 999.
	Status int
	// Header holds the headers and is never nil. A header without values is
	// left out. Content-Length and Transfer-Encoding are ignored: they follow
	// from the body.
	Header http.Header
	// Body is the body. It is not sent in reply to HEAD or with a status that
	// has no body.
	Body []byte
	// Drop closes the connection without a reply, like Server.Drop.
	Drop bool

	// Request is the request's entry in the log at this time. Changes to it
	// have no effect.
	Request Request
	// URL is the URL of the request.
	URL string
	// Payload is the signed payload: JSON, or empty for POST-as-GET. It is nil
	// if the request was not signed correctly.
	Payload []byte

	ctx     context.Context
	problem *Problem // the problem document in the reply, for the log, or nil
}

// Context ends when the client has left or the server is closed. An edit that
// waits must also wait for this.
func (r *Reply) Context() context.Context { return r.ctx }

// SetProblem makes the reply a problem document with the Status and Type of p.
// Missing ones are filled in.
func (r *Reply) SetProblem(p Problem) {
	p = p.filled()
	r.Status, r.Body = p.Status, mustMarshal(p)
	r.Header.Set("Content-Type", "application/problem+json")
}

// EditObject calls edit with the JSON object in the body, and encodes the
// result as the new body. Numbers are of type json.Number. It returns false and
// does nothing if the body is not a JSON object.
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

// Edit calls f with the reply to each request that fits m, after the CA has
// acted on the request and before the reply is sent. By then an order exists, a
// certificate is issued, the nonce is used up, whatever the client is told. f
// may change status, headers and body, or drop the reply. Refusals such as
// badNonce are replies too; replies made up by another fault are not edited. If
// several edits fit, each gets the result of those before it. Truncate acts on
// the final reply.
//
//	// The order is created, but the client does not learn of it, once.
//	ca.Edit(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, func(r *acmetest.Reply) { r.Drop = true })
//
// f runs in the goroutine of the request, so it may run concurrently. No lock
// is held: f may call all methods of the server except Close, which waits for
// it. f may wait as long as the reply's Context has not ended; afterwards
// nothing is sent. It must not retain the reply. If f panics or sets an invalid
// status, the client gets a serverInternal problem that says so;
// http.ErrAbortHandler drops the reply. The log shows the fault "Edit" for
// changed replies, and the status that was sent.
func (s *Server) Edit(m Match, f func(r *Reply)) *Fault {
	if f == nil {
		panic("acmetest: Edit without a function")
	}
	return s.editAs("", m, f)
}

// editAs is Edit by a method with another name.
func (s *Server) editAs(name string, m Match, f func(r *Reply)) *Fault {
	return s.addFault(&requestFault{name: name, kind: faultEditReply, match: m, edit: f})
}

// edit applies the request's edits to its reply, except for those lifted
// meanwhile.
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
		if f.edited.Add(1); !r.equal(&before) {
			s.noteFault(x, f)
		}
	}
	if r.ctx.Err() != nil { // the client has left
		r.Drop = true
	}
	r.problem = problemIn(r.Status, r.Body)
	return r
}

// apply calls f. It returns an error if f panicked or set an invalid status.
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

// equal reports whether the client would see no difference.
func (r *Reply) equal(other *Reply) bool {
	return r.Status == other.Status && r.Drop == other.Drop && bytes.Equal(r.Body, other.Body) &&
		maps.EqualFunc(withValues(r.Header), withValues(other.Header), slices.Equal[[]string])
}

// withValues returns a copy of h without headers that have no values.
func withValues(h http.Header) http.Header {
	h = maps.Clone(h)
	maps.DeleteFunc(h, func(_ string, values []string) bool { return len(values) == 0 })
	return h
}
