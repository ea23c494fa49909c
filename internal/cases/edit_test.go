package cases

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// A reply is one of the CA, on its way to the Manager.
type reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// EditObject calls edit with the JSON object that the body is, if it is one.
func (r *reply) EditObject(edit func(object map[string]any)) bool {
	var object map[string]any
	d := json.NewDecoder(bytes.NewReader(r.Body))
	d.UseNumber()
	if d.Decode(&object) != nil || object == nil {
		return false
	}
	edit(object)
	r.Body, _ = json.Marshal(object)
	return true
}

// SetProblem makes the reply a problem document.
func (r *reply) SetProblem(p acmetest.Problem) {
	r.Status = p.Status
	r.Header.Set("Content-Type", "application/problem+json")
	r.Body, _ = json.Marshal(map[string]any{
		"type": "urn:ietf:params:acme:error:" + p.Type, "detail": p.Detail, "status": p.Status})
}

// edit calls f with each reply of an endpoint, after the CA has done what was
// asked for.
func (w *world) edit(e acmetest.Endpoint, f func(r *reply)) {
	prefix := map[acmetest.Endpoint]string{
		acmetest.Directory: "/directory", acmetest.NewNonce: "/new-nonce", acmetest.NewAccount: "/new-account",
		acmetest.NewOrder: "/new-order", acmetest.Authorization: "/authorization/", acmetest.Challenge: "/challenge/",
		acmetest.Finalize: "/finalize/", acmetest.Order: "/order/", acmetest.Certificate: "/certificate/",
	}[e]
	before := w.tamper
	w.tamper = func(req *http.Request, res *http.Response) *http.Response {
		if before != nil {
			res = before(req, res)
		}
		if prefix != "" && strings.HasPrefix(req.URL.Path, prefix) {
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			r := &reply{Status: res.StatusCode, Header: res.Header, Body: b}
			f(r)
			return answer(req, r.Status, r.Header, string(r.Body))
		}
		return res
	}
}
