package acmeclient

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	directoryTTL     = time.Hour
	directoryRefresh = time.Minute // between two attempts to refresh an outdated copy
)

// directory is the CA's directory document in memory. The zero value is empty. It
// is safe for concurrent use.
type directory struct {
	mu        sync.Mutex // never held across I/O
	doc       *document  // nil before the first fetch and after forget
	refreshAt time.Time  // when doc is outdated and someone should fetch it again
	forgotten int        // how often: a fetch begun before forget must not undo it
}

// document is a parsed directory. It is immutable.
type document struct {
	body []byte

	Nonce       string `json:"newNonce"`
	Account     string `json:"newAccount"`
	Order       string `json:"newOrder"`
	Revoke      string `json:"revokeCert"`
	KeyChange   string `json:"keyChange"`
	RenewalInfo string `json:"renewalInfo"`

	// Not used here. What an acme.Client cannot decode must not be kept, or every
	// attempt would fail until the copy is outdated.
	Authz string `json:"newAuthz"`
	Meta  struct {
		Terms    string            `json:"termsOfService"`
		Website  string            `json:"website"`
		CAA      []string          `json:"caaIdentities"`
		EAB      bool              `json:"externalAccountRequired"`
		Profiles map[string]string `json:"profiles"`
	} `json:"meta"`
}

// get returns the document, and whether the caller is the one to fetch it. A
// caller that is shall pass generation to put. While one fetches an outdated
// document again, and for a while after that failed, all others use the old one.
func (d *directory) get(now time.Time) (doc *document, fetch bool, generation int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.doc == nil {
		return nil, true, d.forgotten
	}
	if now.Before(d.refreshAt) {
		return d.doc, false, d.forgotten
	}
	d.refreshAt = now.Add(directoryRefresh)
	return d.doc, true, d.forgotten
}

func (d *directory) put(doc *document, generation int, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.forgotten == generation {
		d.doc, d.refreshAt = doc, now.Add(directoryTTL)
	}
}

// current returns the document, outdated or not, or nil.
func (d *directory) current() *document {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.doc
}

func (d *directory) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doc = nil
	d.forgotten++
}

// getDirectory answers with the document in memory, or fetches it. Concurrent first
// fetches each go to the network: they are as many as there are attempts, and none
// depends on another's context. What the CA answers instead of a directory goes to
// the acme.Client, which says what is wrong with it or, for a 5xx, tries again.
func (t *transport) getDirectory(req *http.Request) (*http.Response, error) {
	doc, fetch, generation := t.ca.directory.get(time.Now())
	if !fetch {
		return fromDocument(req, doc), nil
	}
	res, err := t.exchangeAgain(req, EndpointDirectory)
	t.keepNonce(res)
	if fresh := parseDirectory(res); fresh != nil {
		t.ca.directory.put(fresh, generation, time.Now())
		return res, nil
	}
	trace := TraceOf(req.Context())
	if doc != nil && req.Context().Err() == nil {
		trace.clearFailed()
		return fromDocument(req, doc), nil
	}
	trace.fail(EndpointDirectory, displayURL(req.URL))
	return res, err
}

// parseDirectory returns the directory in an answer, whose body it leaves unread, or
// nil. newOrder is what makes a JSON object the directory of an RFC 8555 CA.
func parseDirectory(res *http.Response) *document {
	if res == nil || res.StatusCode != http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(res.Body)
	res.Body = io.NopCloser(bytes.NewReader(body))
	doc := &document{body: body}
	if err != nil || json.Unmarshal(body, doc) != nil || doc.Order == "" {
		return nil
	}
	return doc
}

func fromDocument(req *http.Request, doc *document) *http.Response {
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	return fromMemory(req, h, doc.body)
}

// endpoint tells which resource of the directory a URL is.
func (t *transport) endpoint(u string) Endpoint {
	doc := t.ca.directory.current()
	if doc == nil {
		return EndpointOther
	}
	switch u {
	case doc.Account:
		return EndpointNewAccount
	case doc.Order:
		return EndpointNewOrder
	case doc.Revoke:
		return EndpointRevokeCert
	case doc.KeyChange:
		return EndpointKeyChange
	}
	if doc.RenewalInfo != "" && strings.HasPrefix(u, doc.RenewalInfo) {
		return EndpointRenewalInfo
	}
	return EndpointOther
}
