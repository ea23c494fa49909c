package acmetest

import (
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// RetryAfter makes the successful replies of an endpoint whose resource is pending or processing carry this
// Retry-After, as it is: seconds, a date or anything absurd. Any is for endpoints without a value of their own; an
// empty value means no header. RenewalInfo always carries one: 6 hours, if nothing else is set.
func (s *Server) RetryAfter(e Endpoint, value string) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	if s.faults.retryAfter == nil {
		s.faults.retryAfter = make(map[Endpoint]string)
	}
	s.faults.retryAfter[e] = value
}

// retryAfterOf returns the Retry-After that the test wants for an endpoint, and whether it wants any.
func (fs *faults) retryAfterOf(e Endpoint) (value string, set bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if value, set = fs.retryAfter[e]; !set {
		value, set = fs.retryAfter[Any]
	}
	return value, set
}

// retryAfter returns the Retry-After of a reply; empty means none.
func (s *Server) retryAfter(e Endpoint, rep *reply) string {
	if !rep.pending && rep.retryAfter == 0 {
		return ""
	}
	if value, set := s.faults.retryAfterOf(e); set {
		return value
	}
	if rep.retryAfter == 0 {
		return ""
	}
	return s.retryAfterValue(rep.retryAfter)
}

// retryAfterValue writes a time to wait for Retry-After: in seconds or as a date (RFC 9110, section 10.2.3). Either has no
// fractions, so it is rounded up: a client that comes back then does not come too early.
func (s *Server) retryAfterValue(d time.Duration) string {
	if s.RetryAfterDates {
		return roundUp(s.now().Add(d)).UTC().Format(http.TimeFormat)
	}
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// roundUp returns the first full second that is not before t.
func roundUp(t time.Time) time.Time { return t.Add(time.Second - 1).Truncate(time.Second) }

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
	h.Set("Content-Length", strconv.Itoa(len(body)))
	s.journal.status(x.entry, problem.Status, &problem)
	x.w.WriteHeader(problem.Status)
	_, _ = x.w.Write(body)
}

// commonHeaders sets what RFC 8555 wants on replies: a nonce on those to POST and of newNonce (section 6.5), and the
// way back to the directory on all but its own (section 7.1). The date is that of the CA's clock.
func (s *Server) commonHeaders(x *exchange) {
	h := x.w.Header()
	s.addDate(x)
	s.addNonce(x)
	if x.endpoint != Directory {
		h.Add("Link", "<"+s.URL+`>;rel="index"`)
	}
	h.Set("Cache-Control", "public, max-age=0, no-cache")
	if x.endpoint == NewNonce {
		h.Set("Cache-Control", "no-store")
	}
}

// addDate adds the date by the CA's clock.
func (s *Server) addDate(x *exchange) {
	x.w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
}

// addNonce adds a new nonce to the reply if its kind has one.
func (s *Server) addNonce(x *exchange) {
	if x.r.Method == http.MethodPost || x.endpoint == NewNonce {
		x.w.Header().Set("Replay-Nonce", s.nonces.issue())
	}
}

func mustMarshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("acmetest: " + err.Error())
	}
	return b
}
