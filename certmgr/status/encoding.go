package status

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"
)

// minGzip is the size from which a body is compressed, in bytes: a smaller one
// fits a packet or two as it is.
const minGzip = 1400

// send sends a complete body, compressed if the client accepts that.
func send(w http.ResponseWriter, r *http.Request, body *bytes.Buffer) {
	if body.Len() >= minGzip && acceptsGzip(r.Header.Values("Accept-Encoding")) {
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
		if err == nil {
			body.WriteTo(z) // to memory: it cannot fail
			err = z.Close()
		}
		if err == nil {
			w.Header().Set("Content-Encoding", "gzip")
			body = &packed
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	if r.Method == http.MethodGet {
		body.WriteTo(w) // fails if the client has left
	}
}

// acceptsGzip reports whether the client accepts gzip (RFC 9110, section
// 12.5.3), by name and not by "*".
func acceptsGzip(accept []string) bool {
	for item := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		coding, params, _ := strings.Cut(item, ";")
		if coding = strings.ToLower(strings.TrimSpace(coding)); coding != "gzip" && coding != "x-gzip" {
			continue
		}
		name, weight, _ := strings.Cut(strings.TrimSpace(params), "=")
		if !strings.EqualFold(name, "q") {
			return true
		}
		q, err := strconv.ParseFloat(weight, 64)
		return err == nil && q > 0
	}
	return false
}
