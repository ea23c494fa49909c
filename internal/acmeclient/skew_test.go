package acmeclient

import (
	"net/http"
	"testing"
	"time"
)

func TestSkewIsThatOfTheLastDate(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 500e6, time.UTC)
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	tests := []struct {
		name   string
		header http.Header
		want   time.Duration
		ok     bool
	}{
		{"none", http.Header{}, 0, false},
		{"right", http.Header{"Date": {date(0)}}, -500 * time.Millisecond, true},
		{"ahead", http.Header{"Date": {date(time.Hour)}}, time.Hour - 500*time.Millisecond, true},
		{"behind", http.Header{"Date": {date(-time.Hour)}}, -time.Hour - 500*time.Millisecond, true},
		{"RFC 850", http.Header{"Date": {"Sunday, 01-Mar-26 12:00:00 GMT"}}, -500 * time.Millisecond, true},
		{"out of a cache", http.Header{"Date": {date(-time.Hour)}, "Age": {"3600"}}, 0, false},
		{"garbage", http.Header{"Date": {"yesterday"}}, 0, false},
		{"before 1970", http.Header{"Date": {"Mon, 01 Jan 1900 00:00:00 GMT"}}, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s skew
			s.note(tt.header, now)
			ahead, at, ok := s.get()
			if ahead != tt.want || ok != tt.ok || ok && !at.Equal(now) {
				t.Errorf("got %v at %v, %v; want %v, %v", ahead, at, ok, tt.want, tt.ok)
			}
		})
	}
	var s skew
	s.note(http.Header{"Date": {date(time.Hour)}}, now)
	s.note(http.Header{}, now.Add(time.Hour))
	s.note(http.Header{"Date": {date(time.Minute)}}, now)
	if ahead, _, _ := s.get(); ahead != time.Minute-500*time.Millisecond {
		t.Errorf("got %v, want that of the last Date", ahead)
	}
}
