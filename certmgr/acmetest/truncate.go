package acmetest

import "net/http"

// Truncate handles requests normally, but the connection breaks in the middle
// of the reply: the client gets the headers and the first half of the body. A
// reply without a body does not arrive at all. Reading the body ends with an
// error that wraps io.ErrUnexpectedEOF, in memory as over loopback.
//
// It simulates a client that does not know whether the CA has acted. Unlike
// other faults it acts after the request was handled, so the nonce is used up
// and a requested order exists.
func (s *Server) Truncate(m Match) *Fault {
	return s.addFault(&requestFault{kind: faultTruncate, match: m})
}

// truncatingWriter breaks the connection within the body.
type truncatingWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader stores the status until there is a body.
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
