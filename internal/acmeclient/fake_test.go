package acmeclient

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"golang.org/x/crypto/acme"
)

const (
	testBase      = "https://ca.test"
	testDirectory = testBase + "/dir"
	testKID       = acme.KeyID(testBase + "/account/1")
	testOrder     = testBase + "/order/1"
	testAuthz     = testBase + "/authz/1"

	directoryJSON = `{"newNonce":"https://ca.test/nonce","newAccount":"https://ca.test/new-account",` +
		`"newOrder":"https://ca.test/new-order","meta":{}}`
	validOrder   = `{"status":"valid"}`
	pendingOrder = `{"status":"pending"}`
)

// fakeCA is a CA in memory: a RoundTripper that checks nonces and counts requests.
type fakeCA struct {
	mu     sync.Mutex
	count  map[string]int // "METHOD /path"
	total  int
	serial int
	nonces map[string]bool // issued and unused

	// answers holds what is answered instead of a 200 without a body, by "METHOD
	// /path". n counts from 1. It runs without mu, in the goroutine of the request.
	answers map[string]func(req *http.Request, n int) (*http.Response, error)
}

func newFakeCA() *fakeCA {
	f := &fakeCA{
		count:   map[string]int{},
		nonces:  map[string]bool{},
		answers: map[string]func(*http.Request, int) (*http.Response, error){},
	}
	f.reply("GET /dir", 200, directoryJSON)
	f.reply("POST /order/1", 200, validOrder)
	f.reply("POST /authz/1", 200, validOrder)
	f.reply("POST /new-account", 201, "{}", "Location", string(testKID))
	f.reply("POST /new-order", 201, pendingOrder, "Location", testOrder)
	return f
}

// reply makes the CA give the same answer each time; header is in pairs.
func (f *fakeCA) reply(endpoint string, status int, body string, header ...string) {
	f.answers[endpoint] = func(*http.Request, int) (*http.Response, error) {
		return response(status, body, header...), nil
	}
}

func response(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{
		Status:     fmt.Sprintf("%d %s", status, http.StatusText(status)),
		StatusCode: status,
		Header:     h,
		Body:       io.NopCloser(bytes.NewReader([]byte(body))),
	}
}

func problem(status int, typ string, header ...string) *http.Response {
	return response(status, `{"type":"urn:ietf:params:acme:error:`+typ+`","detail":"the reason"}`, header...)
}

func (f *fakeCA) RoundTrip(req *http.Request) (*http.Response, error) {
	endpoint := req.Method + " " + req.URL.Path
	f.mu.Lock()
	f.count[endpoint]++
	f.total++
	n := f.count[endpoint]
	answer := f.answers[endpoint]
	f.mu.Unlock()

	var res *http.Response
	var err error
	switch {
	case req.Method == http.MethodPost && !f.spend(req):
		res = problem(400, "badNonce")
	case answer != nil:
		res, err = answer(req, n)
	default:
		res = response(200, "")
	}
	if err != nil {
		return nil, err
	}
	res.Request = req
	if req.Method != http.MethodGet && res.Header.Get(replayNonce) == "" {
		res.Header.Set(replayNonce, f.issue())
	}
	return res, nil
}

// spend reports whether the nonce of a JWS is good, and takes it.
func (f *fakeCA) spend(req *http.Request) bool {
	var jws struct{ Protected string }
	var header struct{ Nonce string }
	if json.NewDecoder(req.Body).Decode(&jws) != nil {
		return false
	}
	protected, err := base64.RawURLEncoding.DecodeString(jws.Protected)
	if err != nil || json.Unmarshal(protected, &header) != nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	ok := f.nonces[header.Nonce]
	delete(f.nonces, header.Nonce)
	return ok
}

func (f *fakeCA) issue() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serial++
	nonce := fmt.Sprintf("nonce%d", f.serial)
	f.nonces[nonce] = true
	return nonce
}

// restart makes the CA forget every nonce that it gave out.
func (f *fakeCA) restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.nonces)
}

func (f *fakeCA) requests(endpoint string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[endpoint]
}

func (f *fakeCA) expect(t *testing.T, endpoint string, want int) {
	t.Helper()
	if got := f.requests(endpoint); got != want {
		t.Errorf("%s: %d requests, want %d", endpoint, got, want)
	}
}

// newTestCA returns a CA that talks to f.
func newTestCA(f http.RoundTripper) *CA {
	return New(Config{DirectoryURL: testDirectory, HTTPClient: &http.Client{Transport: f}})
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
