package acmetest

import "net/http"

// Truncate handles requests as usual, but the connection breaks in the middle of the reply: the client gets its headers
// and the first half of its body. A reply without a body does not arrive at all. In memory as over loopback, reading the
// body ends with an error that wraps io.ErrUnexpectedEOF.
//
// It is for the client that does not know whether the CA did what it asked for. Unlike the other faults it acts after the
// request was handled, so the nonce is used up, and an order that was asked for exists.
func (s *Server) Truncate(m Match) (lift func()) {
	return s.faults.add(&fault{kind: faultTruncate, match: m})
}

// truncatingWriter breaks the connection within the body.
type truncatingWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader keeps the status until there is a body.
func (w *truncatingWriter) WriteHeader(status int) { w.status = status }

// Write sends half of the body and does not return.
func (w *truncatingWriter) Write(body []byte) (int, error) {
	if len(body) > 0 {
		w.ResponseWriter.WriteHeader(w.status)
		_, _ = w.ResponseWriter.Write(body[:len(body)/2])
		_ = http.NewResponseController(w.ResponseWriter).Flush()
	}
	panic(http.ErrAbortHandler)
}
