package status

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/nostall/nostall/certmgr"
)

// query is a parsed request.
type query struct {
	text    string // part of the host's name
	host    string // the host's name
	state   string // a certmgr.HostState, attention or empty
	cause   string // the key of a cause, or empty
	sort    string // one of sorts
	reverse bool
	page    int    // from 1
	limit   int    // 0 means defaultLimit
	format  string // formatHTML, formatJSON or empty
	notice  notice // after an action, or empty
}

const (
	formatHTML = "html"
	formatJSON = "json"

	attention = "attention"

	maxQuery  = 4096    // bytes of all parameters together
	maxName   = 253     // bytes of a host name (RFC 1035, section 2.3.4, less the length bytes)
	maxPage   = 1 << 20 // large enough, without overflow
	maxLimit  = 1000
	pageLimit = 300 // hosts on a page without the parameter limit
	jsonLimit = 100 // likewise in the JSON form
)

// states returns the states in the order of sort=state, worst first.
func states() []certmgr.HostState {
	return []certmgr.HostState{
		certmgr.StateExpired, certmgr.StatePaused, certmgr.StateRejected, certmgr.StateWaitingForDNS, certmgr.StateBackoff, certmgr.StateFailed,
		certmgr.StateIssuing, certmgr.StateValid,
	}
}

// The sort orders of hosts; the first is the default.
const (
	sortState   = "state"
	sortHost    = "host"
	sortExpiry  = "expiry"
	sortNext    = "next"
	sortRefused = "refused"
)

func sorts() []string { return []string{sortState, sortHost, sortExpiry, sortNext, sortRefused} }

func newQuery() query { return query{sort: sortState, page: 1} }

// hosts returns how many hosts a page has.
func (q query) hosts() int {
	switch {
	case q.limit > 0:
		return q.limit
	case q.format == formatJSON:
		return jsonLimit
	}
	return pageLimit
}

// parseQuery parses the parameters. It ignores unknown ones and empty ones,
// which a form sends.
func parseQuery(raw string) (query, error) {
	q := newQuery()
	if len(raw) > maxQuery {
		return q, fmt.Errorf("it has more than %d bytes", maxQuery)
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, errors.New("it is not well formed") // the error would quote it
	}
	if q.text, err = name(values, "q"); err != nil {
		return q, err
	}
	if q.host, err = name(values, "host"); err != nil {
		return q, err
	}
	allowed := []string{attention}
	for _, s := range states() {
		allowed = append(allowed, string(s))
	}
	if q.state, err = choice(values, "state", "", allowed); err != nil {
		return q, err
	}
	keys := slices.Sorted(maps.Keys(causes))
	if q.cause, err = choice(values, "cause", "", keys); err != nil {
		return q, err
	}
	order := values.Get("sort")
	values.Set("sort", strings.TrimPrefix(order, "-"))
	if q.sort, err = choice(values, "sort", sortState, sorts()); err != nil {
		return q, fmt.Errorf("%w, or one of these after a minus", err)
	}
	q.reverse = strings.HasPrefix(order, "-")
	if q.page, err = number(values, "page", 1, maxPage); err != nil {
		return q, err
	}
	if q.limit, err = number(values, "limit", 0, maxLimit); err != nil {
		return q, err
	}
	if q.format, err = choice(values, "format", "", []string{formatHTML, formatJSON}); err != nil {
		return q, err
	}
	if n := notice(values.Get("notice")); n.text("") != "" {
		q.notice = n // one that is not known says nothing
	}
	return q, nil
}

// name returns a parameter that is a host name or a part of one, in the form of
// a Snapshot.
func name(values url.Values, key string) (string, error) {
	v := strings.TrimSpace(values.Get(key))
	if len(v) > maxName {
		return "", fmt.Errorf("%s has more than %d bytes", key, maxName)
	}
	if v != clean(v, maxName) {
		return "", fmt.Errorf("%s has characters that cannot be shown", key)
	}
	v = strings.ToLower(v)
	if key == "host" {
		v = strings.TrimSuffix(v, ".")
	}
	return v, nil
}

func choice(values url.Values, key, missing string, allowed []string) (string, error) {
	v := values.Get(key)
	if v == "" {
		return missing, nil
	}
	if !slices.Contains(allowed, v) {
		return "", fmt.Errorf("%s must be one of %s", key, strings.Join(allowed, ", "))
	}
	return v, nil
}

func number(values url.Values, key string, missing, most int) (int, error) {
	v := values.Get(key)
	if v == "" {
		return missing, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%s must be a number from 1 to %d", key, most)
	}
	return n, nil
}

// link returns the relative URL of q.
func (q query) link() string {
	values := make(url.Values)
	set := func(key, v, missing string) {
		if v != missing {
			values.Set(key, v)
		}
	}
	set("q", q.text, "")
	set("host", q.host, "")
	set("state", q.state, "")
	set("cause", q.cause, "")
	set("sort", q.order(), sortState)
	set("page", strconv.Itoa(q.page), "1")
	set("limit", strconv.Itoa(q.limit), "0")
	set("format", q.format, "")
	set("notice", string(q.notice), "")
	return "?" + values.Encode()
}

// hostLink returns the relative URL of a host's own page, or "" if parseQuery
// would refuse the name.
func hostLink(host string) string {
	if isPlain(host) {
		return "?host=" + host // the same, and a page has hundreds
	}
	q := newQuery()
	q.host = host
	if _, err := parseQuery(strings.TrimPrefix(q.link(), "?")); err != nil || strings.Contains(host, "*") {
		return "" // wildcards of the allowlist have events but are not hosts
	}
	return q.link()
}

// isPlain reports whether a host name is in normal form and needs no escaping.
func isPlain(host string) bool {
	for i := range len(host) {
		if c := host[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return host != "" && len(host) <= maxName && !strings.HasSuffix(host, ".")
}

// order returns the value of the sort parameter.
func (q query) order() string {
	if q.reverse {
		return "-" + q.sort
	}
	return q.sort
}
