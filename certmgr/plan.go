package certmgr

import (
	"math/rand/v2"
	"time"

	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/text"
)

// plan is when a certificate is to be renewed, and why then.
type plan struct {
	certID   string    // RFC 9773, section 4.1; empty: the CA cannot be asked
	byAge    time.Time // without a suggestion of the CA
	earliest time.Time // of byAge; zero: no bound
	window   window
	failed   int // questions in a row that got no answer
}

// window is what a CA suggested, and the moment that was picked in it.
type window struct {
	start, end, picked time.Time
	explanation        string    // URL of a page for humans
	earliest, latest   time.Time // bounds on any suggestion; earliest may be zero
}

// planFor returns the plan for a certificate that nobody was asked about yet.
// issued is when it was issued here; zero if it comes from the cache.
func planFor(c *certificate, renewBefore time.Duration, issued time.Time) plan {
	lifetime := c.notAfter.Sub(c.notBefore)
	p := plan{
		certID: acmeclient.CertID(c.leaf),
		byAge:  renewAt(c, renewBefore),
		// A CA that sends windows of the far future lets no certificate expire.
		window: window{latest: c.notAfter.Add(-lifetime / 6)},
	}
	if !issued.IsZero() {
		p.notBefore(issued, c)
	}
	return p
}

// notBefore bounds how soon a certificate issued at a time can be renewed,
// whatever it says of itself. A CA that sends windows of the past for every new
// certificate, for ever, makes no loop: a few orders a day.
func (p *plan) notBefore(issued time.Time, c *certificate) {
	p.earliest = notDueBefore(c, issued)
	p.window.earliest = issued.Add(max(minRenewal, min(maxUnasked, c.notAfter.Sub(issued)/10)))
}

// due returns when the certificate is to be renewed: in the CA's window, or by
// its age if there is none. While the CA cannot be asked the sooner of both counts.
func (p *plan) due() time.Time {
	byAge := later(p.byAge, p.earliest)
	w := p.window
	if w.picked.IsZero() {
		return byAge
	}
	t := later(earlier(w.picked, w.latest), w.earliest)
	if p.failed > 0 {
		return earlier(t, byAge)
	}
	return t
}

// bySuggestion reports whether it is the CA that decides when.
func (p *plan) bySuggestion() bool {
	return !p.window.picked.IsZero() && p.due().Equal(later(earlier(p.window.picked, p.window.latest), p.window.earliest))
}

// suggest takes over the CA's answer and reports whether it is another window
// than before. The picked moment stays while the window does (RFC 9773, section 4.2).
func (p *plan) suggest(info acmeclient.RenewalInfo) (moved bool) {
	w := &p.window
	p.failed = 0
	w.explanation = info.ExplanationURL
	if w.start.Equal(info.Start) && w.end.Equal(info.End) {
		return false
	}
	moved = !w.picked.IsZero()
	w.start, w.end = info.Start, info.End
	w.picked = info.Start.Add(rand.N(max(info.End.Sub(info.Start), 1)))
	return moved
}

// forgetWindow is for a CA that does not suggest anything any more.
func (p *plan) forgetWindow() {
	p.window.start, p.window.end, p.window.picked, p.window.explanation = time.Time{}, time.Time{}, time.Time{}, ""
}

// reason says in words why the certificate is renewed at now.
func (p *plan) reason(now time.Time) string {
	w := p.window
	switch {
	case w.picked.IsZero() || now.Before(w.start):
		return "renewal"
	case now.After(w.end):
		return "renewal, which the CA wants to have happened by " + text.Stamp(w.end)
	default:
		return "renewal in the window that the CA suggests"
	}
}

// renewAt returns when a certificate is due by its age: with 1/3 of its lifetime
// left, with 1/2 under 10 days (Let's Encrypt's integration guide), or
// RenewBefore its end if that is set, but never in the first half of a lifetime.
func renewAt(c *certificate, renewBefore time.Duration) time.Time {
	lifetime := c.notAfter.Sub(c.notBefore)
	left := lifetime / 3
	if lifetime < 10*24*time.Hour {
		left = lifetime / 2
	}
	switch {
	case renewBefore > 0:
		left = min(renewBefore, lifetime/2)
	case left > 30*24*time.Hour:
		left = 30 * 24 * time.Hour // as autocert
	}
	// Up to a tenth earlier, so that what was issued together is not due together.
	left = max(left, 0) // a CA may date a certificate so that it ends before it begins
	return c.notAfter.Add(-left - rand.N(left/10+1))
}

// agedUntil is how long nothing is ordered again after a certificate that the
// local clock, which seems to be ahead, calls old: by the lifetime that it
// really has, and not by its dates.
func agedUntil(c *certificate, now time.Time) time.Time {
	return now.Add(c.notAfter.Sub(c.notBefore) / 5)
}

// notDueBefore bounds how soon a certificate just issued can be due, however
// short or old it is: no CA and no setting makes renewal a loop.
func notDueBefore(c *certificate, now time.Time) time.Time {
	left := c.notAfter.Sub(now)
	if isAged(c, now) {
		return later(now.Add(max(minRenewal, left*9/10)), agedUntil(c, now))
	}
	return now.Add(max(minRenewal, left/3))
}

const (
	// minRenewal is the least time between two issuances for a subject.
	minRenewal = time.Minute

	// maxUnasked is the age of a certificate from which on the CA may have it
	// renewed whenever it wants; CAs revoke within a day or more.
	maxUnasked = 6 * time.Hour
)

// isAged reports whether a certificate that was just issued is older than CAs
// date them (Let's Encrypt by an hour): the local clock is ahead.
func isAged(c *certificate, now time.Time) bool {
	return now.Sub(c.notBefore) > c.notAfter.Sub(c.notBefore)/5
}

// urgentLeft is what is left of a lifetime when a renewal goes first.
func urgentLeft(c *certificate) time.Duration { return c.notAfter.Sub(c.notBefore) / 6 }
