package acmetest_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestRequestedDates(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name                string
		notBefore, notAfter any           // a duration from now, or text, or nil for none
		begin, end          time.Duration // from now
		refused             bool
	}{
		{"both", day, 9 * day, day, 9 * day, false},
		{"notBefore", day, nil, day, 11*day - time.Second, false},
		{"notAfter", nil, 2 * day, -time.Hour, 2 * day, false},
		{"none", nil, nil, -time.Hour, 10*day - time.Hour - time.Second, false},
		{"too long", 0 * day, 10 * day, 0, 0, true},
		{"in reverse", 2 * day, day, 0, 0, true},
		{"past", -2 * day, -day, 0, 0, true},
		{"no date", "tomorrow", nil, 0, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := acmetest.NewUnstartedServer()
				s.RequestedDates, s.Lifetime = true, 10*day
				s.StartMemory()
				defer s.Close()
				now := time.Now()
				more := make(map[string]any)
				for name, v := range map[string]any{"notBefore": tt.notBefore, "notAfter": tt.notAfter} {
					if d, ok := v.(time.Duration); ok {
						v = now.Add(d).Format(time.RFC3339)
					}
					if v != nil {
						more[name] = v
					}
				}
				c := newRawClient(t, s)
				a := c.newOrder(more, "a.example.com")
				if tt.refused {
					if a.status != http.StatusBadRequest || a.problem() != "malformed" {
						t.Errorf("%d %s", a.status, a.body)
					}
					return
				}
				begin, end := now.Add(tt.begin), now.Add(tt.end)
				if a.str("notBefore") != begin.UTC().Format(time.RFC3339) || a.str("notAfter") != end.UTC().Format(time.RFC3339) {
					t.Errorf("order %s, want %v to %v", a.body, begin, end)
				}
				s.ReuseOrder("*", acmetest.Times(1)) // one with the same dates
				time.Sleep(time.Minute)
				if tt.notBefore == nil && tt.notAfter == nil {
					if leaf := c.newLeaf("a.example.com"); !leaf.NotBefore.Equal(begin) || !leaf.NotAfter.Equal(end) {
						t.Errorf("from %v to %v, want %v to %v", leaf.NotBefore, leaf.NotAfter, begin, end)
					}
				} else if u, _ := c.order("a.example.com"); u == a.header.Get("Location") {
					t.Error("the order was reused for other dates")
				}
			})
		})
	}
}

// The client of x/crypto gets what it asks for.
func TestRequestedDatesOfACertificate(t *testing.T) {
	inBubbleWith(t, func(s *acmetest.Server) { s.RequestedDates = true }, func(t *testing.T, s *acmetest.Server, r *responder) {
		begin, end := time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
		options := []acme.OrderOption{acme.WithOrderNotBefore(begin), acme.WithOrderNotAfter(end)}
		chain, _, err := obtain(t.Context(), t, newACMEClient(t, s), r, "http-01", "a.example.com", options...)
		if err != nil {
			t.Fatal(err)
		}
		if leaf, err := verify(t, chain, s.Roots(), "a.example.com"); err != nil || !leaf.NotBefore.Equal(begin) || !leaf.NotAfter.Equal(end) {
			t.Errorf("from %v to %v, error %v", leaf.NotBefore, leaf.NotAfter, err)
		}
	})
	s := acmetest.NewMemoryServer()
	defer s.Close()
	_, err := newACMEClient(t, s).AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"), acme.WithOrderNotAfter(time.Now().Add(time.Hour)))
	if !isAs[*acme.Error](err) {
		t.Errorf("without RequestedDates: %v", err)
	}
}
