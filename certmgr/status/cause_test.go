package status_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// of returns a host that failed with err at a stage.
func of(host string, stage audit.Stage, err error, refused uint64) certmgr.HostStatus {
	h := failing(certmgr.HostStatus{Host: host, KeyType: "ECDSA"}, certmgr.StateBackoff, time.Hour, "")
	h.Failure.Stage, h.Failure.Err, h.Refused = stage, err, refused
	return h
}

func problem(kind, detail string) error {
	return &acme.Error{StatusCode: 403, ProblemType: "urn:ietf:params:acme:error:" + kind, Detail: detail}
}

// Each cause has hosts that fail for it.
func everyCause() map[string]certmgr.HostStatus {
	held := func(state certmgr.HostState, err error) certmgr.HostStatus {
		h := of("held.example", audit.StageOrder, err, 1)
		h.State, h.Failure.State = state, state
		return h
	}
	expired := valid("expired.example")
	expired.State, expired.NotAfter = certmgr.StateExpired, now.Add(-day)
	late := valid("late.example")
	late.RenewalFailure = fmt.Errorf("renewal: %w", certmgr.ErrCAUnavailable)
	return map[string]certmgr.HostStatus{
		"caa":         held(certmgr.StateRejected, problem("caa", "no")),
		"paused":      held(certmgr.StatePaused, problem("rateLimited", "paused")),
		"rejected":    held(certmgr.StateRejected, problem("rejectedIdentifier", "no")),
		"elsewhere":   held(certmgr.StateWaitingForDNS, errors.New("leads to 192.0.2.7")),
		"unreachable": of("a.example", audit.StagePreflight, certmgr.ErrUnreachable, 1),
		"clock":       of("a.example", audit.StageFinalize, certmgr.ErrClock, 1),
		"account":     of("a.example", audit.StageAccount, certmgr.ErrNoAccount, 1),
		"key":         of("a.example", audit.StageKey, errors.New("the module is on fire"), 1), // from before a restart
		"cache":       of("a.example", audit.StageStore, errors.New("disk full"), 1),
		"limit":       of("a.example", audit.StageOrder, problem("rateLimited", "too many"), 1),
		"dns":         of("a.example", audit.StageChallenge, problem("dns", "NXDOMAIN"), 1),
		"connection":  of("a.example", audit.StageChallenge, errors.New("400 urn:ietf:params:acme:error:connection: timeout"), 1), // from before a restart
		"otherserver": of("a.example", audit.StageChallenge, problem("unauthorized", "wrong certificate"), 1),
		"ca":          late,
		"queue":       of("a.example", audit.StageQueue, certmgr.ErrBusy, 1),
		"order":       of("a.example", audit.StageOrder, problem("unauthorized", "no"), 1),
		"challenge":   of("a.example", audit.StageChallenge, errors.New("no route"), 1),
		"finalize":    of("a.example", audit.StageFinalize, problem("badCSR", "no"), 1),
		"expired":     expired,
		"other":       of("a.example", "", errors.New("what?"), 1),
	}
}

// The page, the JSON and the filter name the same cause of a failure, with what
// to do before the CA's words.
func TestCausesOfFailures(t *testing.T) {
	for key, h := range everyCause() {
		s := &still{snap: certmgr.Snapshot{Time: now, Hosts: []certmgr.HostStatus{h, valid("z.example")}}}
		var j struct {
			Causes []struct{ Cause, Title, Help, Runbook string }
			Hosts  []struct{ Cause string }
		}
		if err := json.Unmarshal(get(t, s, "/?format=json&cause="+key).Body.Bytes(), &j); err != nil {
			t.Fatal(err)
		}
		if len(j.Causes) != 1 || j.Causes[0].Cause != key || len(j.Hosts) != 1 || j.Hosts[0].Cause != key {
			t.Errorf("%s: the JSON has %+v", key, j)
			continue
		}
		page := get(t, s, "/").Body.String()
		group := page[strings.Index(page, `<article class="group`):strings.Index(page, "</article>")]
		for _, want := range []string{"1 host", j.Causes[0].Title, j.Causes[0].Help, h.Host} {
			if !strings.Contains(text(group), want) {
				t.Errorf("%s: the group does not say %q: %s", key, want, text(group))
			}
		}
		if !strings.Contains(group, `href="`+j.Causes[0].Runbook+`"`) {
			t.Errorf("%s: no link to %s", key, j.Causes[0].Runbook)
		}
		help, words := strings.Index(group, "<p>"), strings.Index(group, "<details>")
		if h.Cause() != nil && (words < help || help < 0) {
			t.Errorf("%s: the CA's words come before what to do: %s", key, group)
		}
	}
}

// Equal causes are one group, and the one that refuses most is first.
func TestEqualCausesAreGrouped(t *testing.T) {
	s := &still{snap: certmgr.Snapshot{Time: now}}
	for i := range 143 {
		s.snap.Hosts = append(s.snap.Hosts, of(fmt.Sprintf("caa-%03d.example", i), audit.StageOrder, problem("caa", fmt.Sprint("no ", i)), 1))
	}
	both := of("dns.example", audit.StageChallenge, problem("dns", "NXDOMAIN"), 5000) // counted once for both key types
	rsa := both
	rsa.KeyType = "RSA"
	s.snap.Hosts = append(s.snap.Hosts, both, rsa, of("z.example", audit.StageOrder, problem("rateLimited", "no"), 0))
	page := text(get(t, s, "/").Body.String())
	want := []string{
		"1 host: The CA cannot look the name up in DNS 5,000 handshakes refused",
		"143 hosts: The domain's CAA records do not allow this CA 143 handshakes refused", "and 138 more",
		"1 host: A rate limit of the CA is reached",
	}
	at := -1
	for _, part := range want {
		i := strings.Index(page, part)
		if i <= at {
			t.Errorf("%q is missing, or not in its place (%d after %d):\n%.1500s", part, i, at, page)
		}
		at = i
	}
	if d, _ := ask(t, s, "cause=caa&limit=1000"); d.Matched != 143 {
		t.Errorf("%d hosts have the cause, want 143", d.Matched)
	}
}

// What the CA said is there to the end, however long it is.
func TestAnswerOfTheCAIsNotCutOff(t *testing.T) {
	long := strings.Repeat("some words of the CA, ", 60) + "and the last one."
	s := &still{snap: certmgr.Snapshot{Time: now, Hosts: []certmgr.HostStatus{of("a.example", audit.StageOrder, errors.New(long), 1)}}}
	for _, target := range []string{"/", "/?host=a.example"} {
		if page := get(t, s, target).Body.String(); !strings.Contains(page, "and the last one.") {
			t.Errorf("%s: the answer is cut off", target)
		}
	}
	s.snap.Hosts[0].Failure.Err = errors.New(strings.Repeat(long, 9))
	if page := get(t, s, "/?host=a.example").Body.String(); strings.Count(page, "and the last one.") != 9 {
		t.Error("the host's own page does not have the whole answer")
	}
}

// Every link into the runbook leads to an entry of it.
func TestLinksToTheRunbookLeadSomewhere(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "runbook.md"))
	if err != nil {
		t.Fatal(err)
	}
	anchors := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(data), -1) {
		anchors[strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")] = true
	}
	links := make(map[string]bool)
	note := func(page string) {
		for _, m := range regexp.MustCompile(`href="https://github\.com/nostall/nostall/blob/main/docs/runbook\.md#([^"]*)"`).FindAllStringSubmatch(page, -1) {
			links[m[1]] = true
		}
	}
	for _, h := range everyCause() {
		note(get(t, &still{snap: certmgr.Snapshot{Time: now, Hosts: []certmgr.HostStatus{h}}}, "/").Body.String())
	}
	s := &still{snap: certmgr.Snapshot{Time: now, Warnings: []string{"a warning"}, CAUnavailable: now.Add(time.Hour), CAFailure: errors.New("503")}}
	for _, kind := range audit.Kinds() {
		s.snap.RecentEvents = append(s.snap.RecentEvents, audit.Event{Time: now, Kind: kind, Host: "a.example"})
	}
	note(get(t, s, "/").Body.String())
	s.snap.CAFailure = certmgr.ErrNoAccount
	note(get(t, s, "/").Body.String())
	if len(links) < 20 {
		t.Errorf("only %d entries are linked: %v", len(links), links)
	}
	for anchor := range links {
		if !anchors[anchor] {
			t.Errorf("docs/runbook.md has no entry %s", anchor)
		}
	}
}

// The page of a host says whether older events of it are gone.
func TestPageOfAHostSaysThatEventsAreGone(t *testing.T) {
	s := everyState()
	if page := text(get(t, s, "/?host=backoff.example").Body.String()); strings.Contains(page, "no longer kept") {
		t.Error("events are said to be gone that never were")
	}
	s.dropped = 17
	if page := text(get(t, s, "/?host=backoff.example").Body.String()); !strings.Contains(page, "17 older events of this host are no longer kept") {
		t.Errorf("the page does not say that events are gone:\n%s", page)
	}
	if data := get(t, s, "/?format=json&host=backoff.example").Body.String(); !strings.Contains(data, `"events_older": 17`) {
		t.Error("the JSON does not say that events are gone")
	}
}

// Many hosts are a list: each of 300 is on the page.
func TestManyHostsAreAList(t *testing.T) {
	page := get(t, many(300), "/").Body.String()
	if n := strings.Count(page, `<li data-key="host-`); n != 300 {
		t.Errorf("%d hosts are in the list, want 300", n)
	}
	if strings.Contains(page, "<table role=") {
		t.Error("there is a table too")
	}
}
