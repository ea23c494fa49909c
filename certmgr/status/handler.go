package status

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/nostall/nostall/certmgr"
)

// A Source supplies what a Handler shows. *certmgr.Manager is one; a wrapper
// can, for example, leave out hosts. Each method is called at most once per
// request and must be safe for concurrent use.
type Source interface {
	Snapshot() certmgr.Snapshot
	Metrics() certmgr.Metrics

	// HostEvents is called for the page of one host.
	HostEvents(host string) certmgr.HostEvents
}

var _ Source = (*certmgr.Manager)(nil)

// Handler returns a handler that shows s, which must not be nil, as a page or
// as JSON. It is safe for concurrent use and holds no lock while it writes. Do
// not make it public: see the package documentation.
func Handler(s Source, list ...Option) http.Handler {
	return &handler{source: s, options: newOptions(list)}
}

// handler is immutable.
type handler struct {
	source  Source
	options options
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "This page can be read only: use GET or HEAD.", http.StatusMethodNotAllowed)
		return
	}
	if err := h.options.checkHost(r); err != nil {
		http.Error(w, "Misdirected request: "+err.Error()+".", http.StatusMisdirectedRequest)
		return
	}
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		http.Error(w, "This query cannot be answered: "+err.Error()+".", http.StatusBadRequest)
		return
	}
	if q.format == "" && wantsJSON(r.Header.Values("Accept")) {
		q.format = formatJSON
	}
	rep := newReport(h.source, q)
	// The response is complete before its first byte is sent, or it is an
	// error.
	var body bytes.Buffer
	if q.format == formatJSON {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(&body) // escapes <, > and &
		enc.SetIndent("", "  ")
		err = enc.Encode(rep.json())
	} else {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		v := newView(rep)
		if setAdmin(&v, h.options); v.Admin != nil {
			// With no-referrer a form's Origin would be null, which Admin refuses.
			w.Header().Set("Referrer-Policy", "same-origin")
		}
		err = page.Execute(&body, v)
	}
	if err != nil {
		http.Error(w, "The status cannot be shown: "+clean(err.Error(), maxText)+".", http.StatusInternalServerError)
		return
	}
	send(w, r, &body)
}

// setHeaders sets the headers of every response, including errors.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // the URL may contain a host name
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept, Accept-Encoding")
}

// wantsJSON reports whether the client prefers JSON to HTML. Clients that accept
// anything get HTML.
func wantsJSON(accept []string) bool {
	page, json := weights(accept)
	return json > page
}

// wantsHTML reports whether the client is a browser: one that asks for HTML.
func wantsHTML(accept []string) bool {
	page, json := weights(accept)
	return page > 0 && page >= json
}

// weights returns how much a client prefers HTML and JSON (RFC 9110, section
// 12.5.1).
func weights(accept []string) (page, json float64) {
	for _, item := range strings.Split(strings.Join(accept, ","), ",") {
		mediaType, params, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		weight, err := strconv.ParseFloat(params["q"], 64)
		if err != nil {
			weight = 1
		}
		switch mediaType {
		case "application/json":
			json = max(json, weight)
		case "text/html", "application/xhtml+xml":
			page = max(page, weight)
		}
	}
	return page, json
}
