package status_test

import (
	"errors"
	"fmt"
	"html"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
)

// text returns the text of a piece of HTML.
func text(markup string) string {
	if _, body, found := strings.Cut(markup, "<body>"); found {
		markup, _, _ = strings.Cut(body, "<script>")
	}
	markup = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(markup, "")
	return strings.Join(strings.Fields(html.UnescapeString(markup)), " ")
}

// rowOf returns the part of a page that is about a host.
func rowOf(t *testing.T, page, host string) string {
	t.Helper()
	_, rest, found := strings.Cut(page, `data-key="`+host+`/`)
	if !found {
		t.Fatalf("the page has no row of %s", host)
	}
	row, _, _ := strings.Cut(rest, "</tbody>")
	return row
}

func TestRowSaysHowAHostStands(t *testing.T) {
	page := get(t, everyState(), "/").Body.String()
	for host, wants := range map[string][]string{
		"valid.example": {"Valid since 2026-10-21 (30 days ago)", "in 60 days 2027-01-19", "in 30 days 2026-12-20",
			"as the CA suggests (ARI) reason", "this hour"},
		"renewing.example": {"Valid since 2026-10-21", "Renewing: finalize, since 14:32:05"},
		"late.example": {"Valid", "Renewal failing", "in 21 h 2026-11-21 11:32 retry",
			"Failed at challenge 13:32:07 (60 min ago), 3rd in a row.", "rate limited", "What to do, and the error in full",
			"The valid certificate is served. Next attempt 2026-11-21 11:32 (in 21 h)."},
		"issuing.example": {"Issuing since 14:32:03 (4 s ago)", "In flight: challenge, 3 handshakes wait", "no certificate"},
		"backoff.example": {"Backing off", "in 49 min 15:21:07 retry", "12,345", "5 h ago", "first <cause>; second & last",
			"Visitors are refused. Next attempt 15:21:07 (in 49 min)."},
		"expired.example": {"Expired since 2026-11-19 14:32 (24 h ago)", "24 h ago 2026-11-19 14:32", "with the next visitor"},
		"failed.example":  {"Failed", "no route", "with the next visitor", "Visitors are refused. The next one begins an attempt."},
	} {
		row := text(rowOf(t, page, host))
		for _, want := range wants {
			if !strings.Contains(row, want) {
				t.Errorf("%s: the row does not say %q: %s", host, want, row)
			}
		}
	}
}

func TestBarShowsLifeAndRenewal(t *testing.T) {
	page := get(t, everyState(), "/").Body.String()
	for host, want := range map[string]string{
		"valid.example":   `class="bar fine".*class="gone" width="33.3".*class="renew" x="66.7"`,
		"late.example":    `class="bar late".*class="gone" width="33.3"`,
		"expired.example": `class="bar over".*class="gone" width="100.0"`,
	} {
		if row := rowOf(t, page, host); !regexp.MustCompile(want).MatchString(row) {
			t.Errorf("%s: no bar with %s: %s", host, want, row)
		}
	}
	if strings.Contains(rowOf(t, page, "issuing.example"), "bar") {
		t.Error("a host without a certificate has a bar")
	}
}

func TestPageSumsUp(t *testing.T) {
	s := everyState()
	markup := get(t, s, "/").Body.String()
	if strings.Contains(markup, `href="?host=%2A`) {
		t.Error("a wildcard of the allowlist is a link to a host")
	}
	page := text(markup)
	for _, want := range []string{
		"6 of 9 certificates need attention", "As of 14:32:07 UTC", "CA In use", "ca.example/directory",
		"In flight2 1 queued", "Waiting3 handshakes",
		"Failing5 1 expired", "Renewals failing1 still valid", "Expires firstin 60 days late.example", "Refused4,127", "Issued46", "Orders left212 of 300 in 3 hours",
		"served1,000,00099.6%", "backing_off4,1270.4%", "challenge9", "All 9", "Needs attention 6", "Valid 3",
		"handshakes_refused backoff.example backing_off: 57 · refused by Backoff · asked by 192.0.2.7:1234",
		"issuance_failed backoff.example stage challenge · took 3s · The CA could not validate the name · next attempt 15:21:07The errorfirst <cause>; second & last",
		"host_listed *.example.org new customer",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
	s.snap.CAUnavailable, s.snap.CAFailure, s.snap.Closed = now.Add(5*time.Minute), errors.New("503: down"), true
	s.nums.EventsDropped = 12
	page = text(get(t, s, "/").Body.String())
	for _, want := range []string{
		"CA Not tried until 14:37:07, in 5 min", "The CA is not available.", "503: down", "The Manager is closed.", "Events lost12",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
}

// A missing account is not called the CA's failure.
func TestMissingAccount(t *testing.T) {
	s := everyState()
	for retry, want := range map[time.Time][]string{
		now.Add(5 * time.Minute): {"CA No account next attempt 14:37:07, in 5 min", "There is no account with the CA. ", " is not tried until 14:37:07 UTC; valid"},
		now.Add(-time.Hour):      {"CA No account next attempt with the next issuance", " is tried again with the next issuance; valid"},
	} {
		s.snap.CAUnavailable, s.snap.CAFailure = retry, fmt.Errorf("%w: the terms have changed", certmgr.ErrNoAccount)
		body := get(t, s, "/").Body.String()
		if !strings.Contains(body, "<title>No account. ") {
			t.Error("the title does not say that there is no account")
		}
		page := text(body)
		for _, want := range append(want, "the terms have changed") {
			if !strings.Contains(page, want) {
				t.Errorf("the page does not say %q:\n%s", want, page)
			}
		}
		if strings.Contains(page, "not available") || strings.Contains(page, "CA unavailable") {
			t.Errorf("the page blames the CA:\n%s", page)
		}
		if json := get(t, s, "/?format=json").Body.String(); !strings.Contains(json, `"no_account": true`) {
			t.Errorf("the JSON form does not say that there is no account: %s", json)
		}
	}
}

// An outage whose retry time is past is not shown as current.
func TestOutageOfTheCAThatMayBeOver(t *testing.T) {
	s := everyState()
	s.snap.CAUnavailable, s.snap.CAFailure = now.Add(-20*day), errors.New("503: down")
	page := text(get(t, s, "/").Body.String())
	for _, want := range []string{"CA Failed when it was last tried", "was not available when it was last tried.", "503: down"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
	for _, not := range []string{"CA unavailable", "ot tried until"} {
		if strings.Contains(page, not) {
			t.Errorf("the page says %q:\n%s", not, page)
		}
	}
}

func TestVerdict(t *testing.T) {
	first := certmgr.HostStatus{Host: "a.example", State: certmgr.StateIssuing, Issuing: true}
	for want, hosts := range map[string][]certmgr.HostStatus{
		"No hosts yet":                         nil,
		"The certificate is valid":             {valid("a.example")},
		"All 2 certificates are valid":         {valid("a.example"), valid("b.example")},
		"1 first certificate is being issued":  {first, valid("b.example")},
		"1 of 2 certificates needs attention":  {failing(valid("a.example"), certmgr.StateValid, time.Hour, "no"), valid("b.example")},
		"The certificate needs attention":      {failing(first, certmgr.StateIssuing, time.Hour, "no")},
		"1,000 of 1,000 certificates need att": many1000(),
	} {
		s := &still{snap: certmgr.Snapshot{Time: now, Hosts: hosts}}
		if page := get(t, s, "/").Body.String(); !strings.Contains(page, want) {
			t.Errorf("with %d hosts the page does not say %q", len(hosts), want)
		}
	}
}

func many1000() (hosts []certmgr.HostStatus) {
	for range 1000 {
		hosts = append(hosts, failing(certmgr.HostStatus{Host: "a.example"}, certmgr.StateBackoff, time.Hour, "no"))
	}
	return hosts
}

func TestOneHostHasDetails(t *testing.T) {
	page := text(get(t, everyState(), "/?host=valid.example").Body.String())
	for _, want := range []string{
		"Valid until2027-01-19 14:32:07", "Renewed byrenewal information", "https://ca.example/why?a=1&b=2", "Show all",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of a host does not say %q:\n%s", want, page)
		}
	}
	page = text(get(t, everyState(), "/?host=paused.example").Body.String())
	for _, want := range []string{
		"Failed attempta1b2-3", "Failed at CA" + caURL, "Failed at URL" + caURL + "/authorization/1",
		"The CA's page to unpausehttps://ca.example/unpause?jwt=a&b=c", "Sooner", "Read the error in full",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of a host that failed does not say %q:\n%s", want, page)
		}
	}
	page = text(get(t, new(still), "/").Body.String())
	if want := "No host has a certificate in memory"; !strings.Contains(page, want) {
		t.Errorf("the page of a new Manager does not say %q:\n%s", want, page)
	}
	page = text(get(t, everyState(), "/?host=nobody.example").Body.String())
	if want := "Nothing is known of nobody.example"; !strings.Contains(page, want) {
		t.Errorf("the page of an unknown host does not say %q:\n%s", want, page)
	}
}

// Sorted columns carry the aria-sort values that screen readers know.
func TestColumnsSayTheirOrder(t *testing.T) {
	for query, want := range map[string]string{
		"": `class="state" aria-sort="descending"`, "sort=-state": `class="state" aria-sort="ascending"`,
		"sort=host": `class="host" aria-sort="ascending"`, "sort=-expiry": `class="expiry" aria-sort="descending"`,
		"sort=refused": `class="refused" aria-sort="descending"`,
	} {
		page := get(t, everyState(), "/?"+query).Body.String()
		if !strings.Contains(page, want) || strings.Count(page, `aria-sort="none"`) != 4 {
			t.Errorf("%s: the page lacks %s, or more is sorted", query, want)
		}
	}
}

// The profile that a host's next order asks for is on its own page and in the
// JSON, without markup of the user's.
func TestProfileIsShown(t *testing.T) {
	s := everyState()
	s.snap.Hosts[len(s.snap.Hosts)-1].Profile = "<b>shortlived"
	if page := get(t, s, "/?host=valid.example").Body.String(); !strings.Contains(text(page), "Profile of the next order<b>shortlived") {
		t.Errorf("the page does not say it: %s", text(page))
	} else if strings.Contains(page, "<b>shortlived") {
		t.Error("it is markup")
	}
	data := strings.ReplaceAll(get(t, s, "/?format=json&host=valid.example").Body.String(), `": "`, `":"`)
	if !strings.Contains(data, `"profile":"\u003cb\u003eshortlived"`) && !strings.Contains(data, `"profile":"<b>shortlived"`) {
		t.Errorf("the JSON lacks it: %s", data)
	}
}

// The group that a host shares its certificate with is on its own page and in the
// JSON.
func TestGroupIsShown(t *testing.T) {
	s := everyState()
	s.snap.Hosts[len(s.snap.Hosts)-1].Group = "first.example"
	if page := text(get(t, s, "/?host=valid.example").Body.String()); !strings.Contains(page, "Shares the certificate of the group offirst.example") {
		t.Errorf("the page does not say it: %s", page)
	}
	data := strings.ReplaceAll(get(t, s, "/?format=json&host=valid.example").Body.String(), `": "`, `":"`)
	if !strings.Contains(data, `"group":"first.example"`) {
		t.Errorf("the JSON lacks it: %s", data)
	}
}

// Warnings about the setup are on every page and in the JSON, without markup of
// an issuer's.
func TestWarningsAreShown(t *testing.T) {
	s := everyState()
	s.snap.Warnings = []string{"Manager.Cache is nil", "issued by <b>Fake LE</b>"}
	s.snap.Hosts[len(s.snap.Hosts)-1].Issuer = "R12, Let's Encrypt"
	page := get(t, s, "/?host=valid.example").Body.String()
	for _, want := range []string{"Warning. Manager.Cache is nil", "Warning. issued by <b>Fake LE</b>", "Issued byR12, Let's Encrypt"} {
		if !strings.Contains(text(page), want) {
			t.Errorf("the page does not say %q: %s", want, text(page))
		}
	}
	if strings.Contains(page, "<b>Fake") {
		t.Error("an issuer's name is markup")
	}
	data := get(t, s, "/?format=json&host=valid.example").Body.String()
	for _, want := range []string{`"Manager.Cache is nil"`, `"issuer":"R12, Let's Encrypt"`} {
		if !strings.Contains(strings.ReplaceAll(data, `": "`, `":"`), want) {
			t.Errorf("the JSON lacks %s: %s", want, data)
		}
	}
	if strings.Contains(text(get(t, everyState(), "/").Body.String()), "Warning.") {
		t.Error("a page without warnings has one")
	}
}
