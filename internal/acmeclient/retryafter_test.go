package acmeclient

import (
	"net/http"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 500_000_000, time.UTC)
	tests := []struct {
		value string
		want  time.Duration // 0: none
	}{
		{"", 0},
		{"0", 0},
		{"000", 0},
		{"1", time.Second},
		{" 7\t", 7 * time.Second},
		{"0120", 2 * time.Minute},
		{"86400", 24 * time.Hour},
		{"86401", 24 * time.Hour},
		{"9223372036854775808", 24 * time.Hour},
		{"184467440737095516160000", 24 * time.Hour},
		{"-1", 0},
		{"+1", 0},
		{"1.5", 0},
		{"1e3", 0},
		{"0x10", 0},
		{"1 2", 0},
		{"tomorrow", 0},
		{"١", 0}, // a digit, but not one of HTTP
		{"Sun, 22 Nov 2026 12:00:00 GMT", 0},
		{"Sun, 22 Nov 2026 12:00:01 GMT", time.Second}, // half a second: rounded up
		{"Sun, 22 Nov 2026 12:00:10 GMT", 10 * time.Second},
		{"Sunday, 22-Nov-26 12:01:00 GMT", time.Minute},
		{"Sun Nov 22 12:01:00 2026", time.Minute},
		{"Mon, 23 Nov 2026 12:00:00 GMT", 24 * time.Hour},
		{"Tue, 01 Dec 2026 12:00:00 GMT", 24 * time.Hour},
		{"Fri, 31 Dec 9999 23:59:59 GMT", 24 * time.Hour},
		{"Sun, 22 Nov 2026 12:00:10 CET", 0},
	}
	for _, tt := range tests {
		got, ok := RetryAfter(http.Header{"Retry-After": {tt.value}}, now)
		if got != tt.want || ok != (tt.want != 0) {
			t.Errorf("%q: %s, %t; want %s", tt.value, got, ok, tt.want)
		}
	}
	if got, ok := RetryAfter(nil, now); got != 0 || ok {
		t.Errorf("no header: %s, %t", got, ok)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, v := range []string{"", "0", "-1", "120", "86401", "99999999999999999999", "soon",
		"Sun, 22 Nov 2026 12:00:10 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		f.Add(v, int64(1_795_348_800))
	}
	f.Add("Sun, 22 Nov 2026 12:00:10 GMT", int64(-1<<62)) // a clock that is far off
	f.Fuzz(func(t *testing.T, value string, unix int64) {
		now := time.Unix(unix, 0)
		h := http.Header{"Retry-After": {value}}
		d, ok := RetryAfter(h, now)
		switch {
		case !ok && d != 0:
			t.Errorf("%q: %s without ok", value, d)
		case ok && (d < time.Second || d > 24*time.Hour || d%time.Second != 0):
			t.Errorf("%q: %s is not a whole number of seconds up to a day", value, d)
		}
		rewriteRetryAfter(h, now)
		again, still := RetryAfter(h, now)
		if again != d || still != ok {
			t.Errorf("%q was rewritten to %q: %s, %t; want %s, %t", value, h.Get("Retry-After"), again, still, d, ok)
		}
		if _, left := h["Retry-After"]; left != ok {
			t.Errorf("%q: header left: %t, want %t", value, left, ok)
		}
	})
}

// A date is by the CA's clock: one that differs from the local one neither prolongs
// nor removes the wait.
func TestRetryAfterIsByTheCAsClock(t *testing.T) {
	local := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, off := range []time.Duration{0, -time.Hour, time.Hour, 365 * 24 * time.Hour} {
		ca := local.Add(off)
		h := http.Header{}
		h.Set("Date", ca.Format(http.TimeFormat))
		h.Set("Retry-After", ca.Add(90*time.Second).Format(http.TimeFormat))
		rewriteRetryAfter(h, local)
		if got := h.Get("Retry-After"); got != "90" {
			t.Errorf("the CA's clock is off by %v: Retry-After %q, want 90", off, got)
		}
	}
}
