package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

// eventView is an event as the page shows it.
type eventView struct {
	Key  string // identifies the event
	At   *moment
	Kind string
	Bad  bool
	Host string
	Link string
	Text string

	Runbook string // the entry about its kind, if something went wrong
	Words   string // the error as it is; empty if there is none
}

const (
	// maxEvent is the longest text of an event on the page besides its error,
	// in bytes, as names and reasons come from clients and users. Its JSON is not
	// cut.
	maxEvent = 400

	// shownEvents is how many events the page shows; more are behind a
	// disclosure.
	shownEvents = 8
)

func newEventView(e audit.Event, now time.Time) eventView {
	v := eventView{
		Key:  fmt.Sprint(e.Seq),
		At:   newMoment(e.Time, now),
		Kind: clean(string(e.Kind), maxName),
		Bad:  e.IsFailure(),
		Host: clean(e.Host, maxName),
		Text: clean(eventText(e, now), maxEvent),
	}
	if e.Host != "" {
		v.Link = hostLink(e.Host)
	}
	if v.Bad && slices.Contains(audit.Kinds(), e.Kind) {
		v.Runbook = runbook + string(e.Kind)
	}
	if e.Err != nil {
		v.Words = causeOf(e)
	}
	return v
}

// eventText returns an event's text without its kind and host.
func eventText(e audit.Event, now time.Time) string {
	var parts []string
	add := func(format string, a ...any) { parts = append(parts, fmt.Sprintf(format, a...)) }
	switch {
	case e.Total != 0:
		add("%s of %s", grouped(e.Count), grouped(e.Total))
	case e.Result != "":
		add("%s: %s", e.Result, grouped(e.Count))
	case e.Count != 0:
		add("%s", grouped(e.Count))
	}
	if e.Stage != "" {
		add("stage %s", e.Stage)
	}
	if e.Duration > 0 {
		add("took %s", e.Duration.Round(time.Millisecond))
	}
	if e.Decision != "" && e.Rule != "" {
		add("%s by %s", e.Decision, e.Rule)
	}
	if e.Actor != "" {
		add("by %s", e.Actor)
	}
	if e.RemoteAddr != "" {
		add("asked by %s", e.RemoteAddr)
	}
	if e.SNI != "" && e.SNI != e.Host {
		add("SNI %s", e.SNI)
	}
	if e.Reason != "" {
		parts = append(parts, e.Reason)
	}
	if e.Err != nil {
		if c := causes[errorKey(e.Err, e.Stage)]; c.key != "other" {
			parts = append(parts, c.title)
		}
	}
	if !e.NotAfter.IsZero() {
		add("valid until %s", absolute(e.NotAfter, now))
	}
	if !e.RetryAt.IsZero() {
		add("next attempt %s", absolute(e.RetryAt, now))
	}
	return strings.Join(parts, " · ")
}

// causeOf returns an event's error without what the event already says.
func causeOf(e audit.Event) string {
	if f, ok := e.Err.(*certmgr.IssuanceError); ok && f.Err != nil {
		return text.Line(text.Of(f.Err), maxWords)
	}
	return text.Line(text.Of(e.Err), maxWords)
}

// gone says whether there were older events than those of the report.
func gone(r *report) string {
	switch {
	case r.query.host == "" && len(r.events) > 0 && r.events[0].Seq > 1:
		return "Older events are in the log; the page of a host has its last 5."
	case r.query.host == "":
		return ""
	case r.kept.Dropped > 0:
		return plural(r.kept.Dropped, "older event of this host is", "older events of this host are") + " no longer kept here; the log has them."
	case r.kept.MayLack:
		return "There may have been older events of this host that are no longer kept here; the log has them."
	}
	return ""
}
