package conformance

import (
	"bytes"
	"crypto"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Client makes the requests of a case, right or wrong. It is not safe for
// concurrent use.
type Client struct {
	t      *testing.T
	ca     *CA
	number int // of the case; names contain it
	log    *log

	// Key signs requests. Account is the account's URL, the key identifier; it
	// is empty before there is one.
	Key     crypto.Signer
	Account string

	directory map[string]any
	nonce     string // from the last reply
}

// log holds the mistakes of the CA in a case.
type log struct{ complaints []string }

// newClient returns a client with a new P-256 key and without an account, for
// the case with this number.
func newClient(t *testing.T, ca *CA, number int) *Client {
	t.Helper()
	return &Client{
		t:      t,
		ca:     ca,
		number: number,
		log:    new(log),
		Key:    newKey(t),
	}
}

// other returns another client, without an account.
func (c *Client) other() *Client {
	c.t.Helper()
	o := newClient(c.t, c.ca, c.number)
	o.log, o.directory = c.log, c.directory
	return o
}

// complain records a mistake of the CA.
func (c *Client) complain(format string, args ...any) {
	c.log.complaints = append(c.log.complaints, fmt.Sprintf(format, args...))
}

// expect complains unless ok.
func (c *Client) expect(ok bool, format string, args ...any) {
	if !ok {
		c.complain(format, args...)
	}
}

// Request is a request. The zero value of a field means the correct value;
// without a method it is a signed POST.
type Request struct {
	URL         string
	Payload     string // empty for POST-as-GET
	Method      string
	ContentType string // "-" for none
	UserAgent   string // "-" for none
	HTTPHeader  http.Header
	Alg         string
	Key         crypto.Signer
	Header      map[string]any       // members of the protected header; a nil value removes one
	JWS         func(map[string]any) // changes the JWS after it was signed
	Body        []byte               // instead of a JWS
}

// Answer is a reply of the CA.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	Object map[string]any // nil unless the body is a JSON object
}

// String returns status and body.
func (a Answer) String() string { return fmt.Sprintf("%d %s", a.Status, a.Body) }

const errorPrefix = "urn:ietf:params:acme:error:"

// Problem returns the ACME error type without its prefix, or "" for a success.
func (a Answer) Problem() string {
	if a.Status < 400 {
		return ""
	}
	return strings.TrimPrefix(a.Text("type"), errorPrefix)
}

// Text returns a member that is a string, or "".
func (a Answer) Text(name string) string {
	s, _ := a.Object[name].(string)
	return s
}

// list returns a member that is a list of strings.
func (a Answer) list(name string) []string {
	var list []string
	values, _ := a.Object[name].([]any)
	for _, v := range values {
		s, _ := v.(string)
		list = append(list, s)
	}
	return list
}

// objects returns a member that is a list of objects.
func (a Answer) objects(name string) []map[string]any {
	var list []map[string]any
	values, _ := a.Object[name].([]any)
	for _, v := range values {
		object, _ := v.(map[string]any)
		list = append(list, object)
	}
	return list
}

// links returns the targets of the Link headers with a relation, as absolute
// URLs.
func (a Answer) links(relation string) []string {
	var list []string
	for _, link := range a.Header.Values("Link") {
		target, params, _ := strings.Cut(link, ";")
		if strings.TrimSpace(params) == `rel="`+relation+`"` {
			list = append(list, strings.Trim(strings.TrimSpace(target), "<>"))
		}
	}
	return list
}

// Do sends a request and checks what all replies have in common.
func (c *Client) Do(r Request) Answer {
	c.t.Helper()
	method, body := http.MethodPost, r.Body
	if r.Method != "" {
		method = r.Method
	} else if body == nil {
		body = c.Sign(r)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, r.URL, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for name, values := range r.HTTPHeader {
		req.Header[name] = values
	}
	setHeader(req.Header, "Content-Type", r.ContentType, "application/jose+json")
	setHeader(req.Header, "User-Agent", r.UserAgent, "nostall-conformance/1.0")
	res, err := c.ca.Client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	a := Answer{Status: res.StatusCode, Header: res.Header}
	if a.Body, err = io.ReadAll(res.Body); err != nil {
		c.t.Fatal(err)
	}
	_ = json.Unmarshal(a.Body, &a.Object)
	if nonce := a.Header.Get("Replay-Nonce"); nonce != "" {
		c.nonce = nonce
	}
	c.inspect(method, r.URL, a)
	return a
}

// setHeader sets a header to a value; empty means the usual value, "-" means no
// header.
func setHeader(h http.Header, name, value, usual string) {
	switch value {
	case "":
		h.Set(name, usual)
	case "-":
		h[name] = nil
	default:
		h.Set(name, value)
	}
}

// post sends a payload signed by the account.
func (c *Client) post(url, payload string) Answer {
	c.t.Helper()
	return c.Do(Request{URL: url, Payload: payload})
}

// get sends a POST-as-GET request.
func (c *Client) get(url string) Answer {
	c.t.Helper()
	return c.post(url, "")
}

// fetch sends a GET request, unsigned.
func (c *Client) fetch(url string) Answer {
	c.t.Helper()
	return c.Do(Request{Method: http.MethodGet, URL: url})
}

// must ends the case if a request that it depends on was not granted. It
// returns the answer.
func (c *Client) must(a Answer, status int) Answer {
	c.t.Helper()
	if a.Status != status {
		c.t.Fatalf("a request that prepares the case was answered with %v, want %d", a, status)
	}
	return a
}

// meta returns the member "meta" of the directory.
func (c *Client) meta() map[string]any {
	c.t.Helper()
	c.discover()
	meta, _ := c.directory["meta"].(map[string]any)
	return meta
}

// url returns the URL of a resource in the directory.
func (c *Client) url(resource string) string {
	c.t.Helper()
	c.discover()
	u, _ := c.directory[resource].(string)
	if _, err := url.ParseRequestURI(u); err != nil {
		c.t.Fatalf("the directory has no URL for %s: %v", resource, c.directory)
	}
	return u
}

func (c *Client) discover() {
	c.t.Helper()
	if c.directory == nil {
		c.directory = c.must(c.fetch(c.ca.Directory), http.StatusOK).Object
	}
}

// newNonce requests a nonce.
func (c *Client) newNonce() string {
	c.t.Helper()
	return c.must(c.Do(Request{Method: http.MethodHead, URL: c.url("newNonce")}), http.StatusOK).Header.Get("Replay-Nonce")
}

// takeNonce returns the nonce of the last reply, or a new one.
func (c *Client) takeNonce() string {
	c.t.Helper()
	if c.nonce == "" {
		c.newNonce()
	}
	nonce := c.nonce
	c.nonce = ""
	return nonce
}
