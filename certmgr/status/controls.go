package status

import (
	"strconv"

	"github.com/nostall/nostall/certmgr"
)

// stateChoices returns the links that filter by state. Each keeps the rest of
// the query and goes to the first page.
func stateChoices(r *report) []choiceView {
	q := r.query
	q.host, q.cause, q.page = "", "", 1
	choice := func(name, value, class string, n int) choiceView {
		to := q
		to.state = value
		return choiceView{
			Name:    name,
			Value:   value,
			Class:   class,
			Link:    to.link(),
			Count:   grouped(n),
			Current: r.query.state == value && r.query.host+r.query.cause == "",
		}
	}
	list := []choiceView{
		choice("All", "", "", len(r.snap.Hosts)),
		choice("Needs attention", attention, "", attentionOf(r.counts)),
	}
	for _, s := range states() {
		if r.counts.Hosts[s] == 0 && r.query.state != string(s) {
			continue
		}
		list = append(list, choice(stateName(s), string(s), stateClass(s), r.counts.Hosts[s]))
	}
	return list
}

func columns(q query) []column {
	sorted := func(name, sort, class string) column {
		to, c := q, column{Name: name, Class: class, Sort: "none"}
		to.sort, to.page, to.reverse = sort, 1, false
		if q.sort == sort {
			to.reverse = !q.reverse
			c.Sort = "ascending"
			// The default order of these two is descending.
			if q.reverse != (sort == sortRefused || sort == sortState) {
				c.Sort = "descending"
			}
		}
		c.Link = to.link()
		return c
	}
	return []column{
		sorted("Host", sortHost, "host"),
		sorted("State", sortState, "state"),
		sorted("Certificate expires", sortExpiry, "expiry"),
		sorted("Next renewal or attempt", sortNext, "next"),
		sorted("Refused", sortRefused, "refused"),
		{Name: "Last visitor", Class: "asked"},
	}
}

// found describes the rows of the table.
func found(r *report) string {
	all := len(r.snap.Hosts)
	switch {
	case r.query.host != "" && r.matched == 0:
		return "Nothing is known of " + clean(r.query.host, maxText) +
			": it has no certificate in memory, no issuance in flight and no failure."
	case all == 0:
		return "No host has a certificate in memory, an issuance in flight or a failure."
	case r.matched == 0:
		return "No host fits the filter."
	}
	text := plural(r.matched, "certificate", "certificates")
	if r.matched < all {
		text = grouped(r.matched) + " of " + plural(all, "certificate", "certificates")
	}
	if r.pages > 1 {
		first := (r.query.page-1)*r.query.hosts() + 1
		text += ", " + grouped(first) + " to " + grouped(first+len(r.hosts)-1)
	}
	return text
}

func pager(r *report) (links []pageLink) {
	if r.pages == 1 {
		return nil
	}
	link := func(name, rel string, page int) {
		to := r.query
		to.page = page
		l := pageLink{Name: name, Rel: rel}
		if page >= 1 && page <= r.pages && page != r.query.page {
			l.Link = to.link()
		}
		links = append(links, l)
	}
	link("First", "", 1)
	link("Previous", "prev", r.query.page-1)
	links = append(links, pageLink{Name: "Page " + grouped(r.query.page) + " of " + grouped(r.pages)})
	link("Next", "next", r.query.page+1)
	link("Last", "", r.pages)
	return links
}

// stateName returns the page's name for a state.
func stateName(s certmgr.HostState) string {
	switch s {
	case certmgr.StateValid:
		return "Valid"
	case certmgr.StateIssuing:
		return "Issuing"
	case certmgr.StateBackoff:
		return "Backing off"
	case certmgr.StatePaused:
		return "Paused"
	case certmgr.StateRejected:
		return "Rejected"
	case certmgr.StateWaitingForDNS:
		return "Waiting for DNS"
	case certmgr.StateExpired:
		return "Expired"
	case certmgr.StateFailed:
		return "Failed"
	}
	return clean(string(s), maxText)
}

// stateClass returns the class of a state in page.css and page.html.
func stateClass(s certmgr.HostState) string {
	switch s {
	case certmgr.StateBackoff:
		return "backoff"
	case certmgr.StateWaitingForDNS:
		return "waiting"
	case certmgr.StateValid, certmgr.StateIssuing, certmgr.StatePaused, certmgr.StateRejected, certmgr.StateExpired, certmgr.StateFailed:
		return string(s)
	}
	return "unknown"
}

func share(n, all uint64) string {
	p := 100 * float64(n) / float64(all)
	if p < 0.1 {
		return "< 0.1%"
	}
	return strconv.FormatFloat(p, 'f', 1, 64) + "%"
}
