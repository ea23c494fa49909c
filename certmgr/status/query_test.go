package status

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
)

// A renewal that was due but could not begin is not shown as due in the past.
func TestNextOfARenewalThatCouldNotBegin(t *testing.T) {
	now := time.Date(2026, 11, 20, 14, 32, 7, 0, time.UTC)
	h := certmgr.HostStatus{Host: "a.example", State: certmgr.StateValid, RetryAt: now.Add(-2 * time.Hour),
		RenewAt: now.Add(15 * time.Minute), RenewalCause: certmgr.RenewalCauseRetry,
		Failure: &certmgr.IssuanceError{Host: "a.example", Err: errors.New("no route")}}
	if at := next(&h); !at.Equal(h.RenewAt) {
		t.Errorf("next %v, want %v", at, h.RenewAt)
	}
	h.RenewAt = now.Add(-3 * time.Hour) // a mark of its lateness
	if at := next(&h); !at.Equal(h.RetryAt) {
		t.Errorf("next %v, want %v", at, h.RetryAt)
	}
}

// Parsing a link returns the query that made it.
func TestLinksLeadToTheirQuery(t *testing.T) {
	for _, q := range []query{
		newQuery(),
		{text: "a b&c=d#e", state: "backing off", sort: sortExpiry, reverse: true, page: 3, limit: 7, format: formatJSON},
		{host: "xn--bcher-kva.example", sort: sortState, reverse: true, page: 1, limit: 40, cause: "caa"},
	} {
		u, err := url.Parse(q.link())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseQuery(u.RawQuery); got != q || err != nil {
			t.Errorf("%s leads to %+v, %v, want %+v", q.link(), got, err, q)
		}
	}
}

// The short way to a host's link leads where the long one does.
func TestLinkOfAPlainHost(t *testing.T) {
	for _, host := range []string{"a.example", "xn--bcher-kva.example", "1.2", "-.-"} {
		q := newQuery()
		q.host = host
		if got := hostLink(host); !isPlain(host) || got != q.link() {
			t.Errorf("%s: %s, want %s", host, got, q.link())
		}
	}
	for _, host := range []string{"", "A.example", "a.example.", "*.example", "a b", "ä.example", strings.Repeat("a", 254)} {
		if isPlain(host) {
			t.Errorf("%q is plain", host)
		}
	}
}
