package acmetest

import (
	"fmt"
	"net/http"
	"strings"
)

// DropReply closes the connection after the CA has acted on a request, so that
// the client does not learn of the order, or of the certificate, that now
// exists. Drop does the same before the CA acts, and Truncate in the middle of
// the reply.
func (s *Server) DropReply(m Match) *Fault {
	return s.editAs("DropReply", m, func(r *Reply) { r.Drop = true })
}

// GatewayPage replies with the HTML page of a gateway before the CA, such as a
// load balancer or a content delivery network, and this status: 502, 503 and
// 504 are common, and 403 or 200 from filters and captive portals. The reply
// has neither a nonce nor a problem document. After 504 the CA has acted: the
// gateway did not wait for its reply. After all others it has not.
//
// GatewayPage panics if code is not from 200 to 999.
func (s *Server) GatewayPage(m Match, code int) *Fault {
	mustBeStatus(code)
	text := strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
	page := fmt.Sprintf("<html>\r\n<head><title>%s</title></head>\r\n<body>\r\n<center><h1>%s</h1></center>\r\n"+
		"<hr><center>gateway.acmetest</center>\r\n</body>\r\n</html>\r\n", text, text)
	header := http.Header{"Content-Type": {"text/html"}, "Server": {"gateway.acmetest"}}
	if code == http.StatusGatewayTimeout {
		return s.editAs("GatewayPage", m, func(r *Reply) {
			r.Status, r.Header, r.Body = code, header.Clone(), []byte(page)
		})
	}
	header["Replay-Nonce"] = nil
	return s.addFault(&requestFault{
		name:   "GatewayPage",
		kind:   faultRespond,
		match:  m,
		status: code,
		header: header,
		body:   page,
	})
}

// SuccessStatus replaces the status of successful replies. DigiCert answers
// newOrder with 200 instead of 201, others finalize with 201 instead of 200.
// The headers and the body stay. SuccessStatus panics if code is not from 200 to
// 299.
func (s *Server) SuccessStatus(m Match, code int) *Fault {
	if code < 200 || code > 299 {
		panic(fmt.Sprintf("acmetest: %d is not the status of a success", code))
	}
	return s.editAs("SuccessStatus", m, func(r *Reply) {
		if r.succeeded() {
			r.Status = code
		}
	})
}

// RelativeURLs removes scheme and host from all URLs in successful replies, in
// headers and JSON. RFC 9110, section 10.2.2, allows it for Location, and some
// CAs do it elsewhere, too.
func (s *Server) RelativeURLs(m Match) *Fault {
	return s.editAs("RelativeURLs", m, func(r *Reply) {
		if !r.succeeded() {
			return
		}
		for _, values := range r.Header {
			for i, value := range values {
				values[i] = s.relative(value)
			}
		}
		if r.Header.Get("Content-Type") == "application/json" {
			r.Body = []byte(s.relative(string(r.Body)))
		}
	})
}

// relative removes the base of this CA's URLs from a text.
func (s *Server) relative(text string) string { return strings.ReplaceAll(text, s.base+"/", "/") }

// NoLocation removes the Location header, which RFC 8555 requires in replies to
// newAccount and newOrder (sections 7.3 and 7.4). Replies to finalize have none
// unless FinalizeLocation is set.
func (s *Server) NoLocation(m Match) *Fault {
	return s.editAs("NoLocation", m, func(r *Reply) { r.Header.Del("Location") })
}

// succeeded reports whether the status is that of a success.
func (r *Reply) succeeded() bool { return r.Status >= 200 && r.Status <= 299 }
