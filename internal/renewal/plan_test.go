package renewal

import (
	"errors"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/acmeclient"
)

const day = 24 * time.Hour

var newYear = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func datesOf(lifetime time.Duration) Dates { return Dates{newYear, newYear.Add(lifetime)} }

// issuedPlan is the plan for a certificate of 90 days issued at newYear.
func issuedPlan() Plan {
	d := datesOf(90 * day)
	p := NewPlan(d, "id", 0)
	p.IssuedAt(newYear, d)
	return p
}

func TestRenewBefore(t *testing.T) {
	tests := []struct {
		name            string
		lifetime, set   time.Duration
		earliest, least time.Duration // left when it is due, at most and at least
	}{
		{"90 days", 90 * day, 0, 33 * day, 30 * day},
		{"a year: 30 days, as autocert", 365 * day, 0, 33 * day, 30 * day},
		{"45 days", 45 * day, 0, 33 * day / 2, 15 * day},
		{"160 hours: half", 160 * time.Hour, 0, 88 * time.Hour, 80 * time.Hour},
		{"set", 90 * day, 10 * day, 11 * day, 10 * day},
		{"set to more than the lifetime", 90 * day, 1000 * day, 45 * day * 11 / 10, 45 * day},
		{"ends before it begins", -day, 0, 0, 0},
	}
	for _, tt := range tests {
		d := datesOf(tt.lifetime)
		for range 100 {
			left := d.NotAfter.Sub(d.ByAge(tt.set))
			if left > tt.earliest || left < tt.least {
				t.Errorf("%s: due with %v left, want %v to %v", tt.name, left, tt.least, tt.earliest)
			}
		}
	}
}

// However short or old a certificate is, there is time between two issuances.
func TestNewCertificateIsNotDueAtOnce(t *testing.T) {
	now := newYear
	tests := []struct {
		name  string
		dates Dates
		least time.Duration
	}{
		{"90 days", datesOf(90 * day), 30 * day},
		{"a second", datesOf(time.Second), MinInterval},
		{"expired", Dates{now.Add(-2 * day), now.Add(-day)}, day / 5},
		{"nearly expired", Dates{now.Add(-80 * day), now.Add(10 * day)}, 18 * day},
		{"ends before it begins", datesOf(-day), MinInterval},
	}
	for _, tt := range tests {
		p := NewPlan(tt.dates, "id", 10_000*day)
		p.IssuedAt(now, tt.dates)
		if wait := p.Due().Sub(now); wait < tt.least {
			t.Errorf("%s: due after %v, want %v at least", tt.name, wait, tt.least)
		}
		p.Answered(acmeclient.RenewalInfo{Start: now.Add(-2 * day), End: now.Add(-day)})
		if wait := p.Due().Sub(now); wait < MinInterval {
			t.Errorf("%s, and a window of the past: due after %v, want %v at least", tt.name, wait, MinInterval)
		}
	}
}

func TestWindowIsClampedByThePlan(t *testing.T) {
	now := newYear
	tests := []struct {
		name       string
		start, end time.Time
		earliest   time.Time
		latest     time.Time
	}{
		{"within", now.Add(50 * day), now.Add(51 * day), now.Add(50 * day), now.Add(51 * day)},
		{"past", now.Add(-2 * day), now.Add(-day), now.Add(6 * time.Hour), now.Add(6 * time.Hour)},
		{"beyond", now.Add(100 * day), now.Add(101 * day), now.Add(75 * day), now.Add(75 * day)},
	}
	for _, tt := range tests {
		p := issuedPlan()
		p.Answered(acmeclient.RenewalInfo{Start: tt.start, End: tt.end})
		if at := p.Due(); at.Before(tt.earliest) || at.After(tt.latest) {
			t.Errorf("%s: due %v, want %v to %v", tt.name, at, tt.earliest, tt.latest)
		}
		if !p.BySuggestion() {
			t.Errorf("%s: due, and not by the CA's suggestion", tt.name)
		}
	}
}

// The picked time stays while the window does; only a new window is reported.
func TestPlanFollowsTheWindow(t *testing.T) {
	p := issuedPlan()
	info := acmeclient.RenewalInfo{Start: newYear.Add(40 * day), End: newYear.Add(50 * day), ExplanationURL: "https://ca.example/why"}
	if _, moved := p.Answered(info); moved {
		t.Error("the first window counts as one that moved")
	}
	picked := p.Due()
	for range 10 {
		if _, moved := p.Answered(info); moved || !p.Due().Equal(picked) {
			t.Fatalf("the same window moved the renewal from %v to %v", picked, p.Due())
		}
	}
	info.Start, info.End = newYear.Add(10*day), newYear.Add(20*day)
	if _, moved := p.Answered(info); !moved || p.Due().After(info.End) {
		t.Errorf("another window: moved %v, due %v", moved, p.Due())
	}
	if p.Explanation() != info.ExplanationURL {
		t.Errorf("explanation %q, want %q", p.Explanation(), info.ExplanationURL)
	}
	p.Unanswered(acmeclient.ErrNoRenewalInfo, 0)
	if p.BySuggestion() || p.Explanation() != "" || p.Due().Before(newYear.Add(57*day)) {
		t.Errorf("a CA that suggests nothing any more: due %v by suggestion %v (%q)", p.Due(), p.BySuggestion(), p.Explanation())
	}
}

// While the CA does not answer, the earlier of its window and the age counts.
func TestPlanWhileTheCACannotBeAsked(t *testing.T) {
	p := issuedPlan()
	p.Answered(acmeclient.RenewalInfo{Start: newYear.Add(72 * day), End: newYear.Add(73 * day)})
	if at := p.Due(); at.Before(newYear.Add(72 * day)) {
		t.Errorf("due %v although the CA suggests a later time", at)
	}
	p.Unanswered(errors.New("no answer"), 0)
	if at := p.Due(); !at.Equal(p.byAge) {
		t.Errorf("due %v while the CA cannot be asked, want %v, by age", at, p.byAge)
	}
	p.Answered(acmeclient.RenewalInfo{Start: newYear.Add(72 * day), End: newYear.Add(73 * day)})
	if at := p.Due(); at.Before(newYear.Add(72 * day)) {
		t.Errorf("due %v although the CA answers again", at)
	}
}

// After the clock is set back, limits set while it was ahead no longer apply,
// and limits set by a correct clock stay.
func TestPlanWhenTheClockWentBack(t *testing.T) {
	d := datesOf(90 * day)
	p := NewPlan(d, "id", 0)
	p.IssuedAt(newYear.AddDate(5, 0, 0), d)
	p.ClockWentBack(newYear, d)
	if at := p.Due(); at.After(d.NotAfter) {
		t.Errorf("due %v, after its end", at)
	}
	before := p
	p.ClockWentBack(newYear.Add(day), d)
	if p != before {
		t.Errorf("bounds moved from %+v to %+v", before, p)
	}
	loaded := NewPlan(d, "id", 0)
	before = loaded
	loaded.ClockWentBack(newYear, d)
	if loaded != before {
		t.Errorf("a certificate from the cache has bounds: %+v", loaded)
	}
}

func TestReasonOfARenewal(t *testing.T) {
	p := issuedPlan()
	start, end := newYear.Add(40*day), newYear.Add(50*day)
	if got := p.Reason(start); got != "renewal" {
		t.Errorf("without a window: %q", got)
	}
	p.Answered(acmeclient.RenewalInfo{Start: start, End: end})
	for _, tt := range []struct {
		now  time.Time
		want string
	}{
		{start.Add(-1), "renewal"},
		{start, "renewal in the CA's suggested window"},
		{end, "renewal in the CA's suggested window"},
		{end.Add(1), "renewal; the window that the CA suggested ended at 2026-02-20T00:00:00Z"},
	} {
		if got := p.Reason(tt.now); got != tt.want {
			t.Errorf("at %v: %q, want %q", tt.now, got, tt.want)
		}
	}
}

func TestAskAfterFailure(t *testing.T) {
	temporary := &acmeclient.RequestError{Method: "GET", URL: "https://ca.example", Err: errors.New("connection refused")}
	tests := []struct {
		name        string
		err         error
		failed      int
		retryAfter  time.Duration
		least, most time.Duration
	}{
		{"first", temporary, 1, 0, askRetry, askRetry * 11 / 10},
		{"third", temporary, 3, 0, 4 * askRetry, 4 * askRetry * 11 / 10},
		{"hundredth", temporary, 100, 0, AskEvery, AskEvery * 11 / 10},
		{"as the CA says", temporary, 1, 12 * time.Hour, 12 * time.Hour, 12 * time.Hour * 11 / 10},
		{"a day at most", temporary, 1, 10 * day, AskLatest, AskLatest * 11 / 10},
		{"not temporary", errors.New("no window"), 1, 0, AskEvery, AskEvery * 11 / 10},
		{"no renewal information", acmeclient.ErrNoRenewalInfo, 1, 0, AskLatest, AskLatest * 11 / 10},
	}
	for _, tt := range tests {
		for range 50 {
			if d := askAfterFailure(tt.err, tt.failed, tt.retryAfter); d < tt.least || d > tt.most {
				t.Errorf("%s: asked again after %v, want %v to %v", tt.name, d, tt.least, tt.most)
			}
		}
	}
}

func TestAskAfterAnAnswer(t *testing.T) {
	for _, tt := range []struct{ retryAfter, want time.Duration }{
		{0, AskEvery}, {time.Second, askSoonest}, {12 * time.Hour, 12 * time.Hour}, {10 * day, AskLatest}, {-time.Hour, askSoonest},
	} {
		for range 50 {
			p := issuedPlan()
			if d, _ := p.Answered(acmeclient.RenewalInfo{RetryAfter: tt.retryAfter}); d < tt.want || d > tt.want*21/20 {
				t.Errorf("Retry-After %v: asked again after %v, want %v and 5%%", tt.retryAfter, d, tt.want)
			}
		}
	}
}
