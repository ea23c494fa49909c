package status

import (
	"bytes"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// answer is the answer to an action.
type answer struct {
	form form
	res  certmgr.ActionResult
	err  error
}

// answerJSON is its form for programs. Keep the package documentation in step.
type answerJSON struct {
	Action  certmgr.ActionKind  `json:"action,omitempty"`
	Host    string              `json:"host,omitempty"`
	State   certmgr.ActionState `json:"state,omitempty"`
	Since   time.Time           `json:"since,omitzero"`
	Stage   audit.Stage         `json:"stage,omitempty"`
	Entries int                 `json:"entries,omitempty"`
	RetryAt time.Time           `json:"retry_at,omitzero"`
	Text    string              `json:"text,omitempty"`
	Error   string              `json:"error,omitempty"`
}

// answer sends a browser back to the page with a notice, or shows it an error.
// Programs get JSON.
func (h *admin) answer(w http.ResponseWriter, r *http.Request, a answer) {
	status := a.status()
	if status == http.StatusTooManyRequests {
		wait := time.Until(a.res.RetryAt).Round(time.Second)
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(wait/time.Second))))
	}
	if !wantsHTML(r.Header.Values("Accept")) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(a.json()) // fails if the client has left
		return
	}
	if a.err == nil {
		// Not http.Redirect, which takes the path for that in the browser: a
		// proxy or http.StripPrefix may have changed it.
		w.Header().Set("Location", h.options.pageAt+a.pageLink())
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	var body bytes.Buffer
	err := answerPage.Execute(&body, struct{ Text, Back string }{wholeError(a.err), h.options.pageAt})
	if err != nil {
		http.Error(w, "The answer cannot be shown.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	body.WriteTo(w)
}

// answerPage is never modified.
var answerPage = template.Must(template.New("answer").Funcs(template.FuncMap{
	"css": func() template.CSS { return template.CSS(pageCSS) },
}).Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Not done · certmgr</title>
<style>{{css}}</style>
</head>
<body>
<div id="page">
<main>
<h1>Not done</h1>
<p class="alert bad" role="alert">{{.Text}}</p>
<p><a href="{{.Back}}">Back to the status page</a></p>
</main>
</div>
</body>
</html>
`))

// status returns the HTTP status.
func (a answer) status() int {
	bad, isForm := a.err.(*formError)
	switch {
	case a.err == nil && (a.res.State == certmgr.ActionBegun || a.res.State == certmgr.ActionInFlight):
		return http.StatusAccepted
	case a.err == nil:
		return http.StatusOK
	case isForm:
		return bad.status
	case errors.Is(a.err, certmgr.ErrBadServerName) && a.form.host != "", errors.Is(a.err, certmgr.ErrNoServerName):
		return http.StatusBadRequest
	case errors.Is(a.err, certmgr.ErrBackoff):
		return http.StatusTooManyRequests
	case errors.Is(a.err, certmgr.ErrBusy), errors.Is(a.err, certmgr.ErrClosed), errors.Is(a.err, certmgr.ErrPolicy):
		return http.StatusServiceUnavailable
	case a.form.action == certmgr.ActionReload: // the file is bad, or there is none
		return http.StatusUnprocessableEntity
	}
	return http.StatusNotFound // not allowed, or not known
}

func (a answer) json() answerJSON {
	j := answerJSON{
		Action:  a.form.action,
		Host:    clean(a.form.host, maxName),
		State:   a.res.State,
		Since:   utc(a.res.Since),
		Stage:   a.res.Stage,
		Entries: a.res.Entries,
		RetryAt: utc(a.res.RetryAt),
		Error:   wholeError(a.err),
	}
	if a.err == nil {
		j.Text = a.notice().text(a.form.host)
	}
	return j
}

func (a answer) notice() notice { return notice(string(a.form.action) + "-" + string(a.res.State)) }

// notice is what a page says after an action. The page takes it from its URL,
// which anybody can make up: so it is one of a closed set.
type notice string

// notices returns the texts of all notices. They begin after the host's name, if
// there is one.
func notices() map[notice]string {
	const outcome = " The outcome will be here and in the audit trail."
	const flying = " There was something in flight already, and nothing more was begun." + outcome
	return map[notice]string{
		"retry-begun":      "A certificate is being looked for in the cache, and issued if there is none." + outcome,
		"retry-in_flight":  flying[1:],
		"retry-unneeded":   "It has a valid certificate: nothing was begun. To replace that, renew it.",
		"renew-begun":      "A certificate is being issued; the present one is served meanwhile." + outcome,
		"renew-in_flight":  flying[1:],
		"revoke-begun":     "The certificate is being revoked." + outcome,
		"revoke-in_flight": flying[1:],
		"reload-done":      "The allowlist's file was read.",
		"reload-begun":     "The allowlist's file is being read." + outcome,
		"reload-in_flight": "The allowlist's file was being read already." + outcome,
	}
}

// text returns what n says about a host, or "" if there is no such notice.
func (n notice) text(host string) string {
	text := notices()[n]
	if text != "" && host != "" {
		return clean(host, maxName) + ": " + text
	}
	return text
}

// pageLink returns the relative URL of the page that shows the answer's notice:
// the host's own, if there is one.
func (a answer) pageLink() string {
	q := newQuery()
	q.host, q.notice = a.form.host, a.notice()
	return q.link()
}
