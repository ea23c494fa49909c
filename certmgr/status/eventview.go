package status

import (
	"fmt"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
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
}

// maxEvent is the longest text of an event on the page, in bytes. Its JSON is
// not cut.
const maxEvent = 400

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
		parts = append(parts, causeOf(e))
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
		return errorText(f.Err, maxEvent)
	}
	return errorText(e.Err, maxEvent)
}
