package renewal

import (
	"math/rand/v2"
	"time"

	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

// A Plan says when and why to renew a certificate. The zero value is for a
// subject without a certificate.
type Plan struct {
	certID   string    // RFC 9773, section 4.1; empty if the CA cannot be asked
	byAge    time.Time // due time without a suggestion of the CA
	earliest time.Time // lower bound on byAge; zero means none
	replace  time.Time // if set, it alone decides: see ReplaceAt
	window   window
	failed   int // consecutive questions without an answer
}

// window is the CA's suggested window, and the time picked in it.
type window struct {
	start, end, picked time.Time
	explanation        string    // URL of the CA's page
	earliest, latest   time.Time // limits on any suggestion; earliest may be zero
}

// NewPlan returns the plan for a certificate before the CA was asked about it.
// certID identifies it to the CA, "" if the CA cannot be asked. renewBefore is
// as in Dates.ByAge.
func NewPlan(d Dates, certID string, renewBefore time.Duration) Plan {
	return Plan{
		certID: certID,
		byAge:  d.ByAge(renewBefore),
		// A window in the far future does not let the certificate expire.
		window: window{latest: d.NotAfter.Add(-d.Lifetime() / 6)},
	}
}

// IssuedAt sets the earliest renewal of a certificate issued at a time,
// whatever its own dates say. A CA that sends windows in the past for every new
// certificate causes a few orders a day, not a loop.
func (p *Plan) IssuedAt(issued time.Time, d Dates) {
	p.earliest = d.notDueBefore(issued)
	p.window.earliest = issued.Add(max(MinInterval, min(maxUnasked, d.NotAfter.Sub(issued)/3)))
}

// ClockWentBack corrects limits that IssuedAt set by a clock that was ahead.
func (p *Plan) ClockWentBack(now time.Time, d Dates) {
	if p.earliest.After(d.notDueBefore(now)) {
		p.IssuedAt(now, d)
	}
}

// ReplaceAt makes the certificate due at t, whatever its dates say. It is not
// one of the CA's, which is not asked about it.
func (p *Plan) ReplaceAt(t time.Time) { p.certID, p.replace = "", t }

// IsReplacement reports whether ReplaceAt was called.
func (p *Plan) IsReplacement() bool { return !p.replace.IsZero() }

// IsZero reports whether there is no certificate to renew.
func (p *Plan) IsZero() bool { return p.byAge.IsZero() }

// CertID identifies the certificate to the CA (RFC 9773, section 4.1). It is ""
// if the CA cannot be asked about it.
func (p *Plan) CertID() string { return p.certID }

// Explanation is the URL of the CA's page about its suggestion, or "".
func (p *Plan) Explanation() string { return p.window.explanation }

// Due returns when to renew the certificate: in the CA's window, or by its age
// if there is none. While the CA does not answer, the earlier of both counts.
func (p *Plan) Due() time.Time {
	if p.IsReplacement() {
		return p.replace
	}
	byAge := pace.Later(p.byAge, p.earliest)
	w := p.window
	if w.picked.IsZero() {
		return byAge
	}
	if p.failed > 0 {
		return pace.Earlier(w.due(), byAge)
	}
	return w.due()
}

// due returns the picked time, within the limits.
func (w window) due() time.Time { return pace.Later(pace.Earlier(w.picked, w.latest), w.earliest) }

// BySuggestion reports whether the CA's suggestion decides when to renew.
func (p *Plan) BySuggestion() bool {
	return !p.window.picked.IsZero() && p.Due().Equal(p.window.due())
}

// InWindow reports whether now is in the window that the CA suggests.
func (p *Plan) InWindow(now time.Time) bool {
	return !p.window.picked.IsZero() && !now.Before(p.window.start) && now.Before(p.window.end)
}

// Answered applies the CA's answer. It returns the wait before the next
// question, and whether the window moved. The picked time stays while the
// window does (RFC 9773, section 4.2).
func (p *Plan) Answered(info acmeclient.RenewalInfo) (wait time.Duration, moved bool) {
	w := &p.window
	p.failed = 0
	w.explanation = info.ExplanationURL
	if !w.start.Equal(info.Start) || !w.end.Equal(info.End) {
		moved = !w.picked.IsZero()
		w.start, w.end = info.Start, info.End
		w.picked = info.Start.Add(rand.N(max(info.End.Sub(info.Start), 1)))
	}
	return nextAsk(info), moved
}

// Unanswered notes a failed question and returns the wait before the next one.
// retryAfter is the wait that the CA asks for in err, or zero.
func (p *Plan) Unanswered(err error, retryAfter time.Duration) (wait time.Duration) {
	if suggestsNothing(err) {
		w := &p.window
		w.start, w.end, w.picked, w.explanation = time.Time{}, time.Time{}, time.Time{}, ""
		return askAfterFailure(err, 1, retryAfter)
	}
	p.failed++
	return askAfterFailure(err, p.failed, retryAfter)
}

// Reason says in words why the certificate is renewed at now.
func (p *Plan) Reason(now time.Time) string {
	w := p.window
	switch {
	case p.IsReplacement():
		return "replacement of a certificate that is for tests"
	case w.picked.IsZero() || now.Before(w.start):
		return "renewal"
	case now.After(w.end):
		return "renewal; the window that the CA suggested ended at " + text.Stamp(w.end)
	default:
		return "renewal in the CA's suggested window"
	}
}
