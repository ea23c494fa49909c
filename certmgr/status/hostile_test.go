package status_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// hostile are texts that SNI, a client or a CA may contain. None may appear
// unchanged.
var hostile = []string{
	`<script>alert(1)</script>`,
	`</style><script>alert(1)</script>`,
	`</title><img src=x onerror=alert(1)>`,
	`"><svg/onload=alert(1)>`,
	`' autofocus onfocus=alert(1) x='`,
	`--><iframe src=javascript:alert(1)>`,
	`]]><x:script xmlns:x="http://www.w3.org/1999/xhtml">alert(1)</x:script>`,
	"a\u2028b\u2029<b>c",
	"right\u202eto<left>",
	"nul\x00<x>\x1b[2J",
	"broken \xff\xfe<utf-8>",
	"a\r\nSet-Cookie: x=<y>",
	"{{.}}<{{template \"time\"}}>",
	strings.Repeat("<b>", 100_000),
}

// poison returns a Source with a text wherever clients and CAs supply one, and
// if all is set in every text.
func poison(s string, all bool) *still {
	p := everyState()
	p.snap.CA, p.snap.CAUnavailable, p.snap.CAFailure = s, now.Add(day), errors.New(s)
	for i := range p.snap.Hosts {
		h := &p.snap.Hosts[i]
		h.Host, h.ExplanationURL = h.Host+s, "https://ca.example/"+s
		if h.Failure != nil {
			h.Failure = &certmgr.IssuanceError{Host: s, CA: s, Attempt: s, Attempts: 2, Time: now, URL: s,
				Err: errors.Join(errors.New(s), errors.New(s))}
		}
	}
	for i := range p.snap.Hosts {
		p.snap.Hosts[i].RenewalFailure = errors.New(s)
	}
	e := audit.Event{Kind: audit.HandshakesRefused, Host: s, Rule: s, Decision: audit.Refused, Result: audit.ResultBusy,
		RemoteAddr: s, SNI: s + "x", ALPN: s, Attempt: s, Stage: audit.StageOrder, Reason: s, CA: s, OrderURL: s,
		ExplanationURL: s, Err: errors.New(s)}
	if all {
		for i := range p.snap.Hosts {
			h := &p.snap.Hosts[i]
			h.KeyType, h.RenewalCause, h.Stage = s, certmgr.RenewalCause(s), audit.Stage(s)
			if h.Failure != nil {
				h.Failure.KeyType, h.Failure.Stage = s, audit.Stage(s)
			}
		}
		p.snap.Hosts[0].State = certmgr.HostState(s)
		e.Kind, e.Result, e.Decision = audit.Kind(s), audit.Result(s), audit.Decision(s)
		e.Stage, e.KeyType, e.Serial = audit.Stage(s), s, s
		p.nums.Failed[audit.Stage(s)] = 1
	}
	p.snap.RecentEvents = []audit.Event{e}
	return p
}

func TestHostileTextIsEscaped(t *testing.T) {
	plain := get(t, poison("x", true), "/").Body.String()
	tag := regexp.MustCompile(`<[A-Za-z!/][^>]*>`)
	names := regexp.MustCompile(`^</?[A-Za-z!]+`)
	tags := func(page string) (list []string) {
		for _, found := range tag.FindAllString(page, -1) {
			// Impossible names are not links.
			if name := names.FindString(found); name != "<a" && name != "</a" {
				list = append(list, name)
			}
		}
		return list
	}
	for _, s := range hostile {
		name := url.QueryEscape(s[:min(len(s), 100)])
		for _, query := range []string{"/", "/?q=" + name, "/?host=" + name} {
			page := get(t, poison(s, true), query).Body.String()
			if strings.Contains(page, s) || strings.Contains(page, strings.ToLower(s)) {
				t.Errorf("%.30q: %.30s holds it as it is", s, query)
			}
			if query == "/" && strings.Join(tags(page), "") != strings.Join(tags(plain), "") {
				t.Errorf("%.30q: the page has other elements than with a plain text", s)
			}
			if i := strings.IndexAny(page, "\x00\u202e\u2028\x1b\ufffd"); i >= 0 {
				t.Errorf("%.30q: %.30s holds characters that deceive, at %q", s, query, page[max(0, i-20):i+10])
			}
			if len(page) > 200_000 {
				t.Errorf("%.30q: %.30s has %d bytes", s, query, len(page))
			}
		}
	}
}

func TestHostileTextIsEscapedInJSON(t *testing.T) {
	for _, s := range hostile {
		if body := get(t, poison(s, true), "/?format=json").Body.String(); strings.ContainsAny(body, "<>&") {
			t.Errorf("%.30q: the JSON could be taken for HTML", s)
		}
		w := get(t, poison(s, false), "/?format=json")
		if !json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%.30q: no JSON: %.200s", s, w.Body)
		}
		if strings.ContainsAny(w.Body.String(), "\u2028\u202e\x00\x1b") {
			t.Errorf("%.30q: the JSON holds characters that deceive", s)
		}
	}
}

func TestOnlyWebAddressesBecomeLinks(t *testing.T) {
	for address, link := range map[string]bool{
		"https://ca.example/why?a=1&b=2#c":           true,
		"http://ca.example":                          true,
		"HTTPS://ca.example/":                        true,
		"javascript:alert(1)":                        false,
		"JavaScript://ca.example/%0aalert(1)":        false,
		" javascript:alert(1)":                       false,
		"data:text/html,<script>alert(1)</script>":   false,
		"vbscript:x":                                 false,
		"file:///etc/passwd":                         false,
		"//ca.example/":                              false,
		"/relative":                                  false,
		"https://":                                   false,
		"https:opaque":                               false,
		"https://user:password@ca.example/":          false,
		"https://ca.example/\x00":                    false,
		"https://ca.example\" onclick=\"alert(1)":    false,
		"https://ca.example/\"onclick=\"alert(1)//'": true, // escaped
	} {
		h := valid("a.example")
		h.RenewalCause, h.ExplanationURL = certmgr.RenewalCauseCA, address
		page := get(t, &still{snap: certmgr.Snapshot{Time: now, Hosts: []certmgr.HostStatus{h}}}, "/").Body.String()
		if got := strings.Contains(page, `rel="noreferrer">reason</a>`); got != link {
			t.Errorf("%q became a link: %v, want %v", address, got, link)
		}
		if regexp.MustCompile(`<a [^>]*onclick="`).MatchString(page) || strings.Contains(page, `href="javascript`) {
			t.Errorf("%q got out of its attribute", address)
		}
	}
}
