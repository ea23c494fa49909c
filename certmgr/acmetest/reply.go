package acmetest

import (
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
)

// RetryAfter makes the successful replies of an endpoint whose resource is pending or processing carry this
// Retry-After, as it is: seconds, a date or anything absurd. Any is for endpoints without a value of their own; an
// empty value ends it.
func (s *Server) RetryAfter(e Endpoint, value string) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	if s.faults.retryAfter == nil {
		s.faults.retryAfter = make(map[Endpoint]string)
	}
	s.faults.retryAfter[e] = value
}

func (fs *faults) retryAfterOf(e Endpoint) string {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if value, ok := fs.retryAfter[e]; ok {
		return value
	}
	return fs.retryAfter[Any]
}

// answer sends a handler's reply.
func (s *Server) answer(x *exchange, rep *reply) {
	h := x.w.Header()
	s.commonHeaders(x)
	if rep.location != "" {
		h.Set("Location", rep.location)
	}
	if rep.up != "" {
		h.Add("Link", "<"+rep.up+`>;rel="up"`)
	}
	if rep.pending {
		if value := s.faults.retryAfterOf(x.endpoint); value != "" {
			h.Set("Retry-After", value)
		}
	}
	body, contentType := rep.raw, rep.rawType
	if rep.json != nil {
		body, contentType = mustMarshal(rep.json), "application/json"
	}
	if contentType != "" {
		h.Set("Content-Type", contentType)
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	s.journal.status(x.entry, rep.status, nil)
	x.w.WriteHeader(rep.status)
	_, _ = x.w.Write(body)
}

// refuse sends a problem document.
func (s *Server) refuse(x *exchange, problem *Problem) { s.sendProblem(x, *problem, nil) }

// sendProblem sends a problem document with more headers.
func (s *Server) sendProblem(x *exchange, problem Problem, header http.Header) {
	problem = problem.filled()
	body := mustMarshal(problem)
	h := x.w.Header()
	s.commonHeaders(x)
	if problem.allow != "" {
		h.Set("Allow", problem.allow)
	}
	h.Set("Content-Type", "application/problem+json")
	maps.Copy(h, header)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	s.journal.status(x.entry, problem.Status, &problem)
	x.w.WriteHeader(problem.Status)
	_, _ = x.w.Write(body)
}

// commonHeaders sets what RFC 8555 wants on replies: a nonce on those to POST and of newNonce (section 6.5), and the
// way back to the directory on all but its own (section 7.1).
func (s *Server) commonHeaders(x *exchange) {
	h := x.w.Header()
	if x.r.Method == http.MethodPost || x.endpoint == NewNonce {
		h.Set("Replay-Nonce", s.nonces.issue())
	}
	if x.endpoint != Directory {
		h.Add("Link", "<"+s.URL+`>;rel="index"`)
	}
	h.Set("Cache-Control", "public, max-age=0, no-cache")
	if x.endpoint == NewNonce {
		h.Set("Cache-Control", "no-store")
	}
}

func mustMarshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("acmetest: " + err.Error())
	}
	return b
}
