package status

import (
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/internal/text"
)

// groupView is a group of hosts with the same cause.
type groupView struct {
	Key                  string
	Title, Help, Runbook string
	Class                string // bad if visitors are refused, or late
	Count                string // "143 hosts"
	Refused              string // empty if nobody was refused
	Link                 string // all of them
	Hosts                []hostView
	More                 string // "and 135 more"; empty if Hosts are all

	// Words are the error of the first host, for most are alike; empty if there
	// is none.
	Words, Speaker, Unpause string
	Many                    bool // whether it is one of several
}

// hostView is the name of a host that links to its page.
type hostView struct{ Name, Link string }

// maxNames is how many hosts of a group are named.
const maxNames = 5

func groupViews(r *report) (list []groupView) {
	for _, g := range r.groups {
		q := newQuery()
		q.cause = g.key
		v := groupView{
			Key:     g.key,
			Title:   g.title,
			Help:    g.help,
			Runbook: g.link(),
			Class:   "late",
			Many:    len(g.hosts) > 1,
			Count:   plural(g.names, "host", "hosts"),
			Link:    q.link(),
		}
		if g.failing {
			v.Class = "bad"
		}
		if g.refused > 0 {
			v.Refused = plural(g.refused, "handshake refused", "handshakes refused")
		}
		for _, h := range g.hosts {
			name := hostView{Name: clean(h.Host, maxName), Link: hostLink(h.Host)}
			if len(v.Hosts) < maxNames && !slices.Contains(v.Hosts, name) {
				v.Hosts = append(v.Hosts, name)
			}
		}
		if more := g.names - len(v.Hosts); more > 0 {
			v.More = "and " + grouped(more) + " more"
		}
		h := g.hosts[0]
		err := h.RenewalFailure
		if f := h.Failure; f != nil {
			err, v.Unpause = f.Err, webLink(f.UnpauseURL)
		}
		if err != nil {
			v.Words, v.Speaker = text.Line(text.Of(err), maxWords), "the error in full"
			if len(problemKinds(err)) > 0 {
				v.Speaker = "the CA's words"
			}
		}
		list = append(list, v)
	}
	return list
}

// cellView is a host in the list of many hosts.
type cellView struct {
	Key, Host, KeyType, Link string

	Class, State string // State is for those who do not see the mark; empty if Note says it
	Note         string // how many visitors were refused, or when the certificate expires or is renewed
}

// maxRows is how many hosts the page shows in a table. More are in a list of
// several columns, which has little of each.
const maxRows = 40

func newCell(h *certmgr.HostStatus, now time.Time, sort string) cellView {
	host, keyType := clean(h.Host, maxName), clean(h.KeyType, maxName)
	c := cellView{
		Key:   host + "/" + keyType,
		Host:  host,
		Link:  hostLink(h.Host),
		Class: stateClass(h.State),
		State: stateName(h.State),
	}
	if keyType != "ECDSA" { // what nearly all are
		c.KeyType = keyType
	}
	if h.IsLate() {
		c.Class, c.State = "late", "Renewal failing"
	}
	at := h.NotAfter
	if sort == sortNext {
		at = next(h)
	}
	switch {
	case h.Refused > 0 && (h.State != certmgr.StateValid || sort == sortRefused):
		c.Note = grouped(h.Refused) + " refused"
	case h.State != certmgr.StateValid && sort != sortNext:
		c.Note, c.State = c.State, ""
	case at.IsZero():
		c.Note = "–"
	default:
		c.Note = strings.TrimPrefix(newMoment(at, now).Relative, "in ")
	}
	return c
}
