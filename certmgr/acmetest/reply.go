package acmetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// RetryAfter makes successful replies of an endpoint for pending or processing
// resources carry this Retry-After, unchecked: seconds, a date or nonsense. Any
// applies to endpoints without a value of their own; an empty value means no
// header. RenewalInfo always carries one, by default 6 hours. It replaces an
// earlier value for the same endpoint.
func (s *Server) RetryAfter(e Endpoint, value string) *Fault {
	s.mustBeUsable()
	mustBeEndpoint(e)
	fs := &s.faults
	var f *Fault
	f = s.begun.add(fmt.Sprintf("RetryAfter(%s, %q)", e, value), func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		if fs.retryAfter[e].fault == f {
			delete(fs.retryAfter, e)
		}
	})
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.retryAfter == nil {
		fs.retryAfter = make(map[Endpoint]retryAfter)
	}
	fs.retryAfter[e] = retryAfter{f, value}
	return f
}

// retryAfter is a value set by RetryAfter.
type retryAfter struct {
	fault *Fault
	value string
}

// useRetryAfter returns the Retry-After set for an endpoint, and whether one is
// set, and counts its use.
func (fs *faults) useRetryAfter(e Endpoint) (value string, set bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	r, set := fs.retryAfter[e]
	if !set {
		r, set = fs.retryAfter[Any]
	}
	if set {
		r.fault.acted.Add(1)
	}
	return r.value, set
}

// retryAfter returns the Retry-After of a reply; empty means none.
func (s *Server) retryAfter(e Endpoint, rep *reply) string {
	if !rep.pending && rep.retryAfter == 0 {
		return ""
	}
	if value, set := s.faults.useRetryAfter(e); set {
		return value
	}
	if rep.retryAfter == 0 {
		return ""
	}
	return s.retryAfterValue(rep.retryAfter)
}

// retryAfterValue formats a wait for Retry-After, in seconds or as a date (RFC
// 9110, section 10.2.3). It rounds up, so that a client which obeys does not
// come too early.
func (s *Server) retryAfterValue(d time.Duration) string {
	if s.RetryAfterDates {
		return roundUp(s.now().Add(d)).UTC().Format(http.TimeFormat)
	}
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// roundUp rounds t up to a full second.
func roundUp(t time.Time) time.Time { return t.Add(time.Second - 1).Truncate(time.Second) }

// successReply returns a handler's reply with all its headers.
func (s *Server) successReply(x *exchange, rep *reply) *Reply {
	h := s.commonHeader(x)
	if rep.location != "" {
		h.Set("Location", rep.location)
	}
	if rep.up != "" {
		h.Add("Link", "<"+rep.up+`>;rel="up"`)
	}
	if rep.next != "" {
		h.Add("Link", "<"+rep.next+`>;rel="next"`)
	}
	for _, url := range rep.alternates {
		h.Add("Link", "<"+url+`>;rel="alternate"`)
	}
	if value := s.retryAfter(x.endpoint, rep); value != "" {
		h.Set("Retry-After", value)
	}
	body, contentType := rep.raw, rep.rawType
	if rep.json != nil {
		body, contentType = mustMarshal(rep.json), "application/json"
	}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	return &Reply{Status: rep.status, Header: h, Body: body}
}

// problemReply returns a problem document with additional headers, which may be
// nil.
func (s *Server) problemReply(x *exchange, problem Problem, header http.Header) *Reply {
	problem = problem.filled()
	h := s.commonHeader(x)
	if problem.allow != "" {
		h.Set("Allow", problem.allow)
	}
	if problem.location != "" {
		h.Set("Location", problem.location)
	}
	if problem.terms != "" {
		h.Add("Link", "<"+problem.terms+`>;rel="terms-of-service"`)
	}
	if problem.retryAfter > 0 {
		h.Set("Retry-After", s.retryAfterValue(problem.retryAfter))
	}
	h.Set("Content-Type", "application/problem+json")
	maps.Copy(h, header)
	return &Reply{Status: problem.Status, Header: h, Body: mustMarshal(problem), problem: &problem}
}

// send sends a reply, or drops the connection. The reply has exactly its own
// headers and those that HTTP needs: net/http adds neither a date nor a type.
func (s *Server) send(x *exchange, r *Reply) {
	if r.Drop {
		panic(http.ErrAbortHandler)
	}
	h := x.w.Header()
	h["Date"], h["Content-Type"] = nil, nil
	maps.Copy(h, r.Header)
	h.Del("Content-Length")
	h.Del("Transfer-Encoding")
	body := r.Body
	if r.Status == http.StatusNoContent || r.Status == http.StatusNotModified {
		body = nil
	} else if len(body) > 0 || x.r.Method != http.MethodHead {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	s.journal.status(x.entry, r.Status, r.problem)
	x.w.WriteHeader(r.Status)
	_, _ = x.w.Write(body)
}

// commonHeader returns the headers that RFC 8555 requires: a nonce on replies
// to POST and of newNonce (section 6.5), and a link to the directory on all but
// its own (section 7.1). The date is that of the CA's clock.
func (s *Server) commonHeader(x *exchange) http.Header {
	h := make(http.Header)
	s.addDate(h)
	s.addNonce(x, h)
	if x.endpoint != Directory {
		h.Add("Link", "<"+s.URL+`>;rel="index"`)
	}
	h.Set("Cache-Control", "public, max-age=0, no-cache")
	if x.endpoint == NewNonce {
		h.Set("Cache-Control", "no-store")
	}
	return h
}

// addDate adds the date by the CA's clock.
func (s *Server) addDate(h http.Header) { h.Set("Date", s.now().UTC().Format(http.TimeFormat)) }

// addNonce adds a new nonce if the reply's kind has one.
func (s *Server) addNonce(x *exchange, h http.Header) {
	if x.r.Method == http.MethodPost || x.endpoint == NewNonce {
		h.Set("Replay-Nonce", s.nonces.issue())
	}
}

func mustMarshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("acmetest: " + err.Error())
	}
	return b
}
