package status

import (
	"fmt"
	"net/url"
	"time"

	"github.com/nostall/nostall/internal/text"
)

// maxText is the longest text from clients or a CA, in bytes.
const maxText = 1024

// maxLink is the longest link of a CA: a part of one leads nowhere.
const maxLink = 2048

// clean returns a text as one line of at most limit bytes, without invisible
// characters or changes of writing direction. It does not escape for HTML or
// JSON.
func clean(s string, limit int) string { return text.OneLine(s, limit) }

// wholeError returns an error as one line of at most maxText bytes. Joined errors
// are separated by semicolons. Its links are whole, and count apart.
func wholeError(err error) string {
	if err == nil {
		return ""
	}
	return text.Line(text.Of(err), maxText)
}

// webLink returns a URL that is safe as a link, or "": a CA could send one that
// runs a script.
func webLink(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.String()
}

// A moment is a time as the page shows it.
type moment struct {
	Machine  string // for the datetime attribute
	Relative string // "in 12 days"
	Absolute string // in UTC: the time of day, today; otherwise with the date, or the date alone
}

func newMoment(t, now time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	m := &moment{Machine: t.UTC().Format(time.RFC3339), Absolute: absolute(t, now)}
	switch d := t.Sub(now); {
	case d >= time.Second:
		m.Relative = "in " + length(d)
	case d <= -time.Second:
		m.Relative = length(-d) + " ago"
	default:
		m.Relative = "now"
	}
	return m
}

func absolute(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	switch d := t.Sub(now).Abs(); {
	case t.Format(time.DateOnly) == now.Format(time.DateOnly):
		return t.Format(time.TimeOnly)
	case d < 48*time.Hour:
		return t.Format("2006-01-02 15:04")
	}
	return t.Format(time.DateOnly)
}

// length returns a duration in the largest unit of which there are at least
// two.
func length(d time.Duration) string {
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d < 2*year:
		return fmt.Sprintf("%d days", d/day)
	}
	return fmt.Sprintf("%d years", d/year)
}

// grouped returns a number with thousands separators.
func grouped[N int | uint64](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural returns a number and its noun: one or many.
func plural[N int | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// ordinal returns 1st, 2nd, 3rd and so on.
func ordinal(n int) string {
	suffix := "th"
	if tens := n % 100 / 10; tens != 1 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return grouped(n) + suffix
}
