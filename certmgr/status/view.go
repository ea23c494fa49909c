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
	Columns []column
	Rows    []row
	Found   string // how many hosts match, and which are shown
	Pager   []pageLink
	Results []resultView
	Failed  []resultView
	Events  []eventView // newest first
	Reload  string
	JSON    string
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
	Text, Host, State, Order string
	Limit                    int // 0 means the default
	Filtered                 bool
}

// column is a heading. Sort is the value of aria-sort; it is empty if the
// column cannot be sorted.
type column struct{ Name, Link, Sort, Class string }

type pageLink struct{ Name, Link, Rel string }

type resultView struct{ Name, Count, Share string }

func newView(r *report) view {
	s, q, now := &r.snap, r.query, r.snap.Time
	v := view{
		Taken:   newMoment(now, now),
		Closed:  s.Closed,
		Facts:   facts(r),
		States:  stateChoices(r),
		Columns: columns(q),
		Found:   found(r),
		Pager:   pager(r),
		Reload:  q.link(),
	}
	v.Verdict, v.Bad = verdict(r.counts, len(s.Hosts))
	v.Title = v.Verdict
	v.CA = caView{Directory: strings.TrimPrefix(clean(s.CA, maxText), "https://")}
	if !s.CAUnavailable.IsZero() {
		v.CA.Retry, v.CA.Error = newMoment(s.CAUnavailable, now), wholeError(s.CAFailure)
		v.CA.Due = !now.Before(s.CAUnavailable)
		v.CA.NoAccount = errors.Is(s.CAFailure, certmgr.ErrNoAccount)
		switch {
		case v.CA.NoAccount:
			v.Title = "No account. " + v.Title
		case !v.CA.Due:
			v.Title = "CA unavailable. " + v.Title
		}
	}
	for _, w := range s.Warnings {
		v.Warns = append(v.Warns, clean(w, maxText))
	}
	v.Query = queryView{Text: q.text, Host: q.host, State: q.state, Filtered: q.text+q.host+q.state != ""}
	if q.sort != sortState || q.reverse {
		v.Query.Order = q.order()
	}
	if q.limit != defaultLimit {
		v.Query.Limit = q.limit
	}
	for _, h := range r.hosts {
		v.Rows = append(v.Rows, newRow(h, now, q.host != ""))
	}
	v.Results = results(r.metrics.Handshakes)
	v.Failed = failures(r.metrics.Failed)
	for i := len(r.events) - 1; i >= 0; i-- {
		v.Events = append(v.Events, newEventView(r.events[i], now))
	}
	q.format = formatJSON
	v.JSON = q.link()
	return v
}

// verdict sums up all hosts in one sentence.
func verdict(c counts, hosts int) (text string, bad bool) {
	valid := c.states[certmgr.StateValid]
	switch {
	case hosts == 0:
		return "No hosts yet", false
	case c.attention == 0 && valid < hosts:
		return plural(hosts-valid, "first certificate is", "first certificates are") + " being issued", false
	case c.attention == 0 && hosts == 1:
		return "The certificate is valid", false
	case c.attention == 0:
		return "All " + grouped(hosts) + " certificates are valid", false
	case hosts == 1:
		return "The certificate needs attention", true
	case c.attention == 1:
		return "1 of " + grouped(hosts) + " certificates needs attention", true
	}
	return grouped(c.attention) + " of " + grouped(hosts) + " certificates need attention", true
}

func facts(r *report) []fact {
	s, c, now := &r.snap, r.counts, r.snap.Time
	expiry := fact{Name: "Expires first", Value: "–", Of: "no valid certificate"}
	if h := c.soonest; h != nil {
		expiry.Value, expiry.Of, expiry.Link = newMoment(h.NotAfter, now).Relative, clean(h.Host, maxName), hostLink(h.Host)
		expiry.Bad = h.NotAfter.Sub(now) < 7*24*time.Hour && late(h)
	}
	list := []fact{
		{Name: "In flight", Value: grouped(c.inFlight), Of: grouped(s.Queued) + " queued"},
		{Name: "Waiting", Value: grouped(s.Waiting), Of: "handshakes"},
		{Name: "Backing off", Value: grouped(c.backingOff), Of: grouped(c.late) + " still valid"},
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
	order := []audit.Stage{audit.StageQueue, audit.StageAccount, audit.StagePreflight, audit.StageOrder,
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
