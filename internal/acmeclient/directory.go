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
	directoryRefresh = time.Minute // between attempts to refresh a stale copy
)

// directory caches the CA's directory document. The zero value is empty. It is
// safe for concurrent use.
type directory struct {
	mu        sync.Mutex // never held across I/O
	doc       *document  // nil before the first fetch and after forget
	fetchedAt time.Time  // when doc was
	refreshAt time.Time  // when doc is stale and should be fetched again
	forgotten int        // counts calls of forget: an earlier fetch must not undo it
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

	// Of these only CAA and Profiles are used here, but all are decoded: a document that an
	// acme.Client cannot decode must not be cached, or every attempt would fail
	// until it is stale.
	Authz string `json:"newAuthz"`
	Meta  struct {
		Terms    string            `json:"termsOfService"`
		Website  string            `json:"website"`
		CAA      []string          `json:"caaIdentities"`
		EAB      bool              `json:"externalAccountRequired"`
		Profiles map[string]string `json:"profiles"`
	} `json:"meta"`
}

// get returns the document, and whether the caller must fetch it and pass
// generation to put. While one caller refreshes a stale document, and for a
// while after that failed, the others use the stale one.
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
		d.doc, d.fetchedAt, d.refreshAt = doc, now, now.Add(directoryTTL)
	}
}

// current returns the document, stale or not, or nil.
func (d *directory) current() *document {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.doc
}

// expire makes the document stale.
func (d *directory) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refreshAt = time.Time{}
}

func (d *directory) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doc = nil
	d.forgotten++
}

// CAAIssuer returns the domain that a CAA record must have for this CA to issue
// (RFC 8555, section 7.1.1, and RFC 8659), as its directory says, or "".
func (ca *CA) CAAIssuer() string {
	if doc := ca.directory.current(); doc != nil && len(doc.Meta.CAA) > 0 {
		return doc.Meta.CAA[0]
	}
	return ""
}

// getDirectory returns the cached document, or fetches it. Concurrent first
// fetches each go to the network: there are only as many as attempts, and none
// depends on another's context.
func (t *transport) getDirectory(req *http.Request) (*http.Response, error) {
	doc, fetch, generation := t.ca.directory.get(time.Now())
	if !fetch {
		return fromDocument(req, doc), nil
	}
	res, err := t.fetchDirectory(req, doc == nil)
	t.keepNonce(res)
	if t.keepDirectory(res, generation) {
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

// keepDirectory keeps the document in a response, if there is one.
func (t *transport) keepDirectory(res *http.Response, generation int) bool {
	fresh := parseDirectory(res)
	if fresh == nil {
		return false
	}
	for _, u := range []*string{&fresh.Nonce, &fresh.Account, &fresh.Order, &fresh.Revoke, &fresh.KeyChange, &fresh.RenewalInfo} {
		*u = t.absoluteURL(*u)
	}
	t.ca.directory.put(fresh, generation, time.Now())
	return true
}

// fetchDirectory asks for the document, more than once only if it is needed.
func (t *transport) fetchDirectory(req *http.Request, needed bool) (*http.Response, error) {
	if needed {
		return t.get(req, forDirectory)
	}
	res, err := t.exchange(req, forDirectory, EndpointDirectory)
	if err != nil {
		return nil, err
	}
	return res, t.settle(forDirectory, EndpointDirectory, req, res)
}

// parseDirectory returns the directory in a response, or nil. The body can
// still be read afterwards. An RFC 8555 directory is recognised by newOrder.
func parseDirectory(res *http.Response) *document {
	if res == nil || res.StatusCode < 200 || res.StatusCode > 299 {
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

// endpoint returns which resource of the directory a URL is.
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
