package status

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// view is a report in the form of page.html. All texts are ready, so the
// template only decides what to leave out.
type view struct {
	Title   string
	Verdict string // one sentence about all hosts
	Bad     bool   // whether the verdict is bad
	Taken   *moment
	Closed  bool
	CA      caView
	Warns   []string // about the setup
	Facts   []fact
	States  []choiceView // the filter by state
	Query   queryView
	Groups  []groupView // what to fix, worst first
	Columns []column
	Rows    []row      // of hosts, if there are few
	Cells   []cellView // of hosts, if there are many
	Found   string     // how many hosts match, and which are shown
	Pager   []pageLink
	Results []resultView
	Failed  []resultView
	Events  []eventView // newest first
	Older   []eventView // those after them, behind a disclosure
	Gone    string      // about events that are no longer kept
	Runbook string      // its entry about the CA
	Setup   string      // its entry about warnings
	Notice  string      // after an action, or empty
	Reload  string
	JSON    string
	Admin   *adminView // the buttons, or nil
	File    string     // of the allowlist, or empty
}

type caView struct {
	Directory string
	Retry     *moment // nil if the CA is in use
	Due       bool    // Retry is past, and nothing has needed the CA since
	NoAccount bool    // the CA works, but there is no account with it
	Error     string
}

// fact is a number in the summary. Of completes the phrase.
type fact struct {
	Name, Value, Of, Link string
	Bad                   bool
}

type choiceView struct {
	Name, Value, Class, Link, Count string
	Current                         bool
}

type queryView struct {
	Text, Host, State, Cause, Order string
	CauseTitle                      string
	Limit                           int // 0 means the default
	Filtered                        bool
}

// column is a heading. Sort is the value of aria-sort; it is empty if the
// column cannot be sorted.
type column struct{ Name, Link, Sort, Class string }

type pageLink struct{ Name, Link, Rel string }

type resultView struct{ Name, Count, Share string }

func newView(r *report) view {
	notice := r.query.notice.text(r.query.host)
	r.query.notice = "" // links lead to the page without it
	s, q, now := &r.snap, r.query, r.snap.Time
	v := view{
		Taken:   newMoment(now, now),
		Closed:  s.Closed,
		Facts:   facts(r),
		States:  stateChoices(r),
		Columns: columns(q),
		Found:   found(r),
		Pager:   pager(r),
		Notice:  notice,
		File:    clean(s.HostsFile, maxText),
		Reload:  q.link(),
	}
	v.Verdict, v.Bad = verdict(r.counts, len(s.Hosts))
	v.Title = v.Verdict
	v.CA = caView{Directory: strings.TrimPrefix(clean(s.CA, maxText), "https://")}
	if !s.CAUnavailable.IsZero() {
		v.CA.Retry, v.CA.Error = newMoment(s.CAUnavailable, now), wholeError(s.CAFailure)
		v.CA.Due = !now.Before(s.CAUnavailable)
		v.CA.NoAccount = errors.Is(s.CAFailure, certmgr.ErrNoAccount)
		v.Runbook = runbook + "ca_unavailable"
		if v.CA.NoAccount {
			v.Runbook = runbook + "account_unavailable"
		}
		switch {
		case v.CA.NoAccount:
			v.Title = "No account. " + v.Title
		case !v.CA.Due:
			v.Title = "CA unavailable. " + v.Title
		}
	}
	v.Setup = runbook + "certmgrwarnings"
	for _, w := range s.Warnings {
		v.Warns = append(v.Warns, clean(w, maxText))
	}
	v.Query = queryView{
		Text:     q.text,
		Host:     q.host,
		State:    q.state,
		Cause:    q.cause,
		Limit:    q.limit,
		Filtered: q.text+q.host+q.state+q.cause != "",
	}
	if c := causes[q.cause]; c != nil {
		v.Query.CauseTitle = c.title
	}
	if q.sort != sortState || q.reverse {
		v.Query.Order = q.order()
	}
	if q.host == "" {
		v.Groups = groupViews(r)
	}
	for _, h := range r.hosts {
		if len(r.hosts) <= maxRows {
			v.Rows = append(v.Rows, newRow(h, now, q.host != ""))
		} else {
			v.Cells = append(v.Cells, newCell(h, now, q.sort))
		}
	}
	v.Results = results(r.metrics.Handshakes)
	v.Failed = failures(r.metrics.Failed)
	for i := len(r.events) - 1; i >= 0; i-- {
		if e := newEventView(r.events[i], now); len(v.Events) < shownEvents {
			v.Events = append(v.Events, e)
		} else {
			v.Older = append(v.Older, e)
		}
	}
	v.Gone = gone(r)
	q.format = formatJSON
	v.JSON = q.link()
	return v
}

// verdict sums up all hosts in one sentence.
func verdict(c certmgr.HostCounts, hosts int) (text string, bad bool) {
	valid, attention := c.Hosts[certmgr.StateValid], attentionOf(c)
	switch {
	case hosts == 0:
		return "No hosts yet", false
	case attention == 0 && valid < hosts:
		return plural(hosts-valid, "first certificate is", "first certificates are") + " being issued", false
	case attention == 0 && hosts == 1:
		return "The certificate is valid", false
	case attention == 0:
		return "All " + grouped(hosts) + " certificates are valid", false
	case hosts == 1:
		return "The certificate needs attention", true
	case attention == 1:
		return "1 of " + grouped(hosts) + " certificates needs attention", true
	}
	return grouped(attention) + " of " + grouped(hosts) + " certificates need attention", true
}

func facts(r *report) []fact {
	s, c, now := &r.snap, r.counts, r.snap.Time
	expiry := fact{Name: "Expires first", Value: "–", Of: "no valid certificate"}
	if h := r.soonest; h != nil {
		expiry.Value, expiry.Of, expiry.Link = newMoment(h.NotAfter, now).Relative, clean(h.Host, maxName), hostLink(h.Host)
		expiry.Bad = h.NotAfter.Sub(now) < 7*24*time.Hour && h.IsLate()
	}
	list := []fact{
		{Name: "In flight", Value: grouped(c.InFlight), Of: grouped(s.Queued) + " queued"},
		{Name: "Waiting", Value: grouped(s.Waiting), Of: "handshakes"},
		{
			Name:  "Failing",
			Value: grouped(c.HostsFailing),
			Of:    grouped(c.Hosts[certmgr.StateExpired]) + " expired",
			Bad:   c.HostsFailing > 0,
		},
		{Name: "Renewals failing", Value: grouped(c.RenewalsLate), Of: "still valid"},
		expiry,
		{Name: "Refused", Value: grouped(s.Refused), Of: "handshakes"},
		{Name: "Issued", Value: grouped(r.metrics.Issued), Of: "since the start"},
	}
	if s.OrderBudget > 0 {
		list = append(list, fact{
			Name:  "Orders left",
			Value: grouped(s.OrdersLeft),
			Of:    "of " + grouped(s.OrderBudget) + " in 3 hours",
			Bad:   s.OrdersLeft < s.OrderBudget/6,
		})
	}
	if n := r.metrics.EventsDropped; n > 0 {
		list = append(list, fact{Name: "Events lost", Value: grouped(n), Of: "the Audit hook is too slow", Bad: true})
	}
	return list
}

// results returns the counts of handshakes by result, without zeros.
func results(handshakes map[audit.Result]uint64) (list []resultView) {
	var all uint64
	for _, n := range handshakes {
		all += n
	}
	for _, name := range audit.Results() {
		if n := handshakes[name]; n > 0 {
			list = append(list, resultView{Name: string(name), Count: grouped(n), Share: share(n, all)})
		}
	}
	return list
}

// failures returns the counts of failed issuances by stage, in the order of the
// stages.
func failures(failed map[audit.Stage]uint64) (list []resultView) {
	order := []audit.Stage{audit.StageQueue, audit.StageAccount, audit.StageKey, audit.StagePreflight, audit.StageOrder,
		audit.StageAuthorization, audit.StageChallenge, audit.StageFinalize, audit.StageStore}
	for _, stage := range slices.Sorted(maps.Keys(failed)) {
		if !slices.Contains(order, stage) {
			order = append(order, stage)
		}
	}
	for _, stage := range order {
		if n := failed[stage]; n > 0 {
			list = append(list, resultView{Name: clean(string(stage), maxName), Count: grouped(n)})
		}
	}
	return list
}
