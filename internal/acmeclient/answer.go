package acmeclient

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// settle turns a response that means success into the one that x/crypto/acme
// accepts: it insists on the statuses of RFC 8555, and CAs and proxies send any
// 2xx. It returns an error if the body or a field is not what p requires: such
// a response comes from something in front of the CA, or was damaged on the
// way.
func settle(p purpose, req *http.Request, res *http.Response) error {
	if p == forChallenge && res.StatusCode == http.StatusConflict {
		// The CA is validating it already, perhaps because of an earlier
		// request. The authorization tells how that ends.
		replaceBody(res, []byte(`{"status":"processing"}`))
		setStatus(res, http.StatusOK)
		return nil
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return nil
	}
	body := readAgain(res)
	bad := &unusableError{status: res.StatusCode, purpose: p}
	if bad.what = misfit(p, res, body); bad.what != "" {
		// A whole document is no accident.
		d, _ := RetryAfter(res.Header, time.Now())
		bad.lasts = len(body) > 0 && json.Valid(body) || d > maxObeyed
		return bad
	}
	if lacksLocation(p, res) {
		bad.what, bad.lasts = "no Location, the field with its URL (RFC 8555, section 7.3 or 7.4)", true
		return bad
	}
	if clean := withoutOddDates(p, body); clean != nil {
		replaceBody(res, clean)
	}
	setStatus(res, wantStatus(p, res.StatusCode))
	return nil
}

// wantStatus returns the status that x/crypto/acme expects.
func wantStatus(p purpose, status int) int {
	switch {
	case p == forOrder, p == forAccount && status != http.StatusOK: // 200: the account existed
		return http.StatusCreated
	case p == forNonce:
		return status
	}
	return http.StatusOK
}

// misfit says what a successful response is if it cannot be a response to p,
// otherwise it returns "".
func misfit(p purpose, res *http.Response, body []byte) string {
	object, isObject := members(body)
	fits := true
	switch p {
	case forNonce:
		if res.Header.Get(replayNonce) == "" {
			return "no Replay-Nonce (the newNonce of its ACME directory may be missing or wrong)"
		}
		return ""
	case forDirectory:
		fits = parseDirectory(res) != nil
	case forAccount, forLookup, forChallenge:
		fits = isObject
	case forOrder, forFinalize:
		fits = isObject && hasStatus(object)
	case forChain:
		fits = isPEM(body)
	case forObject: // it may be a chain whose URL was not seen
		fits = isObject && hasStatus(object) || isPEM(body)
	case forUnsigned: // its caller parses it
	default:
		fits = !isHTML(res.Header, body)
	}
	if fits {
		return ""
	}
	return describe(res.Header, body)
}

// describe says in words what a body is.
func describe(h http.Header, body []byte) string {
	typ := ""
	if t := h.Get("Content-Type"); t != "" {
		typ = fmt.Sprintf(" (%.40s)", t)
	}
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		return "an empty body"
	case isHTML(h, body):
		return "HTML" + typ
	case json.Valid(trimmed):
		return "other JSON" + typ
	case bytes.HasPrefix(trimmed, []byte("{")):
		return "JSON that is cut short or damaged" + typ
	}
	return "something else" + typ
}

func isHTML(h http.Header, body []byte) bool {
	return strings.Contains(h.Get("Content-Type"), "html") || bytes.HasPrefix(bytes.TrimSpace(body), []byte("<"))
}

func isPEM(body []byte) bool {
	block, _ := pem.Decode(body)
	return block != nil
}

// members returns the members of a JSON object.
func members(body []byte) (object map[string]json.RawMessage, ok bool) {
	err := json.Unmarshal(body, &object)
	return object, err == nil && object != nil
}

func hasStatus(object map[string]json.RawMessage) bool {
	var status string
	return json.Unmarshal(object["status"], &status) == nil && status != ""
}

// lacksLocation reports whether the URL of a new order or of an account is
// missing. Nothing can be done without it, so it is better to stop here.
func lacksLocation(p purpose, res *http.Response) bool {
	switch p {
	case forOrder, forAccount, forLookup:
		return res.Header.Get("Location") == ""
	}
	return false
}

// withoutOddDates returns the body of an order or authorization without the
// dates that are not in the form of RFC 3339. x/crypto/acme would refuse the
// whole object because of one, though nothing depends on them. It returns nil
// if there are none.
func withoutOddDates(p purpose, body []byte) []byte {
	object, ok := members(body)
	if !ok || p != forOrder && p != forObject {
		return nil
	}
	odd := false
	for _, name := range []string{"expires", "notBefore", "notAfter"} {
		var date time.Time
		if raw, ok := object[name]; ok && json.Unmarshal(raw, &date) != nil {
			delete(object, name)
			odd = true
		}
	}
	if !odd {
		return nil
	}
	clean, err := json.Marshal(object)
	if err != nil {
		return nil
	}
	return clean
}

// certificateIn returns the URL of the certificate in an order, or "".
func certificateIn(body []byte) string {
	var order struct{ Certificate string }
	json.Unmarshal(body, &order)
	return order.Certificate
}

// readAgain returns the body, which is in memory, and leaves it to be read.
func readAgain(res *http.Response) []byte {
	body, _ := io.ReadAll(res.Body)
	replaceBody(res, body)
	return body
}

func replaceBody(res *http.Response, body []byte) {
	res.Body = io.NopCloser(bytes.NewReader(body))
	res.ContentLength = int64(len(body))
}

func setStatus(res *http.Response, status int) {
	res.StatusCode = status
	res.Status = fmt.Sprintf("%d %s", status, http.StatusText(status))
}
