package certmgr

import (
	"fmt"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/bundle"
)

func TestVisitsAreBounded(t *testing.T) {
	v, now := newVisits(nil, func() {}), time.Now()
	v.noteAsked("www.tenant.com", bundle.ECDSA, grant{trust: byPolicy}, now)
	for i := range 2 * maxVisits {
		v.noteAsked(fmt.Sprintf("www.stranger%d.com", i), bundle.ECDSA, grant{trust: untrusted, policyYes: now}, now.Add(-time.Hour))
	}
	if n := v.unlisted.Len(); n != 10_000 {
		t.Errorf("%d hosts of strangers, want 10,000", n)
	}
	if asked, _ := v.of("www.tenant.com"); asked.IsZero() {
		t.Error("strangers took the place of a host that clients asked for just now")
	}
	v.noteAsked("listed.example.com", bundle.ECDSA, grant{trust: listed}, now)
	if asked, _ := v.of("listed.example.com"); asked.IsZero() {
		t.Error("strangers took the place of a host on the list")
	}
	v.follow(change{added: []string{"www.tenant.com"}}, now)
	if v.forget("listed.example.com"); v.unlisted.Len() != 9_999 || v.hosts.Len() != 10_000 {
		t.Errorf("%d hosts of strangers, and %d in all", v.unlisted.Len(), v.hosts.Len())
	}
}

// Visitors of a wildcard's hosts count for it, however many names strangers asked for.
func TestStrangersHideNoVisitorOfAWildcard(t *testing.T) {
	inside(t, func(t *testing.T, w *insides) {
		w.m.Hosts.Add("*.example.org")
		s := w.m.engine.report
		for i := range maxVisits {
			s.visits.noteAsked(fmt.Sprintf("s%d.example.org", i), bundle.ECDSA, grant{trust: untrusted}, s.now())
		}
		time.Sleep(40 * 24 * time.Hour)
		s.visits.noteAsked("www.example.org", bundle.ECDSA, grant{trust: untrusted}, s.now())
		for _, h := range w.m.StaleHosts(30 * 24 * time.Hour) {
			if h.Entry == "*.example.org" {
				t.Errorf("a visitor a moment ago: %+v", h)
			}
		}
	})
}

// What the cache knows of visits counts if it can be true, and for entries of the list.
func TestMergedVisitsAreBelievedWithinReason(t *testing.T) {
	record := visitRecord{Hosts: map[string]sightings{
		"a.example.com":       {Since: time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)},
		"b.example.com":       {Since: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), Asked: time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)},
		"stranger.example.eu": {Since: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)},
	}}
	inside(t, func(t *testing.T, w *insides) {
		s := &visitStore{env: w.m.engine.env, visits: w.m.engine.report.visits}
		s.visits.watch(w.m.Hosts.All(), s.now())
		s.visits.merge(record.Hosts, s.now())
		if seen, _ := s.visits.sightings("a.example.com"); seen.Since.After(time.Now()) {
			t.Error("a record of a clock that was ahead counts")
		}
		if seen, _ := s.visits.sightings("b.example.com"); !seen.Asked.IsZero() || seen.Since.Year() != 1999 {
			t.Errorf("merged: %+v", seen)
		}
		if _, ok := s.visits.sightings("stranger.example.eu"); ok {
			t.Error("the cache put a host into memory that is not on the list")
		}
	})
}
