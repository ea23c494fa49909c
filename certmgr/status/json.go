package status

import (
	"errors"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

// The JSON form. Keep the package documentation in step.
type (
	reportJSON struct {
		Time    time.Time     `json:"time,omitzero"`
		Closed  bool          `json:"closed"`
		CA      caJSON        `json:"ca"`
		Counts  countsJSON    `json:"counts"`
		Totals  totalsJSON    `json:"totals"`
		Matched int           `json:"matched"`
		Page    int           `json:"page"`
		Pages   int           `json:"pages"`
		Limit   int           `json:"limit"`
		Causes  []causeJSON   `json:"causes"`
		Hosts   []hostJSON    `json:"hosts"`
		Events  []audit.Event `json:"events"`

		EventsOlder   int  `json:"events_older,omitempty"`
		EventsMayLack bool `json:"events_may_lack,omitempty"`

		Warnings []string `json:"warnings,omitempty"`
	}

	causeJSON struct {
		Cause   string `json:"cause"`
		Title   string `json:"title"`
		Help    string `json:"help"`
		Runbook string `json:"runbook"`
		Hosts   int    `json:"hosts"`
		Refused uint64 `json:"refused"`
	}

	caJSON struct {
		Directory string    `json:"directory"`
		Available bool      `json:"available"`
		NoAccount bool      `json:"no_account,omitempty"` // and the CA is not why
		RetryAt   time.Time `json:"retry_at,omitzero"`
		Error     string    `json:"error,omitempty"`

		Orders *ordersJSON `json:"orders,omitempty"`
	}

	ordersJSON struct {
		Left  int `json:"left"`
		Limit int `json:"limit"`
	}

	countsJSON struct {
		Hosts           int                       `json:"hosts"`
		States          map[certmgr.HostState]int `json:"states"`
		Attention       int                       `json:"attention"`
		Failing         int                       `json:"failing"`
		RenewalsFailing int                       `json:"renewals_failing"`
		BackingOff      int                       `json:"backing_off"`
		InFlight        int                       `json:"in_flight"`
		Issuing         int                       `json:"issuing"`
		Queued          int                       `json:"queued"`
		Waiting         int                       `json:"waiting"`
		SoonestExpiry   *expiryJSON               `json:"soonest_expiry,omitempty"`

		OwnSoonestExpiry time.Time `json:"own_soonest_expiry,omitzero"`
	}

	expiryJSON struct {
		Host     string    `json:"host"`
		KeyType  string    `json:"key_type"`
		NotAfter time.Time `json:"not_after,omitzero"`
	}

	totalsJSON struct {
		Handshakes    map[audit.Result]uint64 `json:"handshakes"`
		Refused       uint64                  `json:"refused"`
		Issued        uint64                  `json:"issued"`
		Failed        map[audit.Stage]uint64  `json:"failed"`
		EventsDropped uint64                  `json:"events_dropped"`
	}

	hostJSON struct {
		Host           string               `json:"host"`
		KeyType        string               `json:"key_type,omitempty"`
		State          certmgr.HostState    `json:"state"`
		StateSince     time.Time            `json:"state_since,omitzero"`
		Attention      bool                 `json:"attention"`
		Late           bool                 `json:"late,omitempty"`
		Cause          string               `json:"cause,omitempty"`
		NotBefore      time.Time            `json:"not_before,omitzero"`
		NotAfter       time.Time            `json:"not_after,omitzero"`
		RenewAt        time.Time            `json:"renew_at,omitzero"`
		RenewBy        certmgr.RenewalCause `json:"renew_by,omitempty"`
		ExplanationURL string               `json:"explanation_url,omitempty"`
		InFlight       *inFlightJSON        `json:"in_flight,omitempty"`
		Failure        *failureJSON         `json:"failure,omitempty"`
		RetryAt        time.Time            `json:"retry_at,omitzero"`
		Refused        uint64               `json:"refused"`
		LastAsked      time.Time            `json:"last_asked,omitzero"`
		Issuer         string               `json:"issuer,omitempty"`
		Profile        string               `json:"profile,omitempty"`
		Group          string               `json:"group,omitempty"` // first name of the group that shares a certificate
		RenewalFailure string               `json:"renewal_failure,omitempty"`
		Fallback       bool                 `json:"fallback,omitempty"`
		Source         string               `json:"source,omitempty"`   // of a certificate of the operator's own
		Successor      time.Time            `json:"successor,omitzero"` // when the one of the CA ends that takes its place
	}

	inFlightJSON struct {
		Since   time.Time   `json:"since,omitzero"`
		Stage   audit.Stage `json:"stage"`
		Waiting int         `json:"waiting"`
		Holder  string      `json:"holder,omitempty"` // the machine that issues in place of this one
	}

	failureJSON struct {
		Stage      audit.Stage `json:"stage"`
		Time       time.Time   `json:"time,omitzero"`
		Attempts   int         `json:"attempts"`
		Attempt    string      `json:"attempt,omitempty"`
		CA         string      `json:"ca,omitempty"`
		URL        string      `json:"url,omitempty"`
		Hint       string      `json:"hint,omitempty"`
		State      string      `json:"state,omitempty"`
		UnpauseURL string      `json:"unpause_url,omitempty"`
		Error      string      `json:"error"`
	}
)

func (r *report) json() reportJSON {
	s, c := &r.snap, r.counts
	j := reportJSON{
		Time:   utc(s.Time),
		Closed: s.Closed,
		CA:     caJSON{Directory: clean(s.CA, maxText), Available: s.CAUnavailable.IsZero()},
		Counts: countsJSON{
			Hosts:           len(s.Hosts),
			States:          c.Hosts,
			Attention:       attentionOf(c),
			Failing:         c.HostsFailing,
			RenewalsFailing: c.RenewalsLate,
			BackingOff:      c.BackingOff,
			InFlight:        c.InFlight,
			Issuing:         s.Issuing,
			Queued:          s.Queued,
			Waiting:         s.Waiting,

			OwnSoonestExpiry: utc(c.OwnSoonestExpiry),
		},
		Totals: totalsJSON{
			Handshakes:    r.metrics.Handshakes,
			Refused:       s.Refused,
			Issued:        r.metrics.Issued,
			Failed:        r.metrics.Failed,
			EventsDropped: r.metrics.EventsDropped,
		},
		Matched: r.matched,
		Page:    r.query.page,
		Pages:   r.pages,
		Limit:   r.query.hosts(),
		Hosts:   make([]hostJSON, 0, len(r.hosts)),
		Causes:  make([]causeJSON, 0, len(r.groups)),
		Events:  r.events,

		EventsOlder:   r.kept.Dropped,
		EventsMayLack: r.kept.MayLack,
	}
	for _, g := range r.groups {
		j.Causes = append(j.Causes, causeJSON{
			Cause:   g.key,
			Title:   g.title,
			Help:    g.help,
			Runbook: g.link(),
			Hosts:   g.names,
			Refused: g.refused,
		})
	}
	if !j.CA.Available {
		j.CA.NoAccount = errors.Is(s.CAFailure, certmgr.ErrNoAccount)
		j.CA.RetryAt, j.CA.Error = utc(s.CAUnavailable), wholeError(s.CAFailure)
	}
	if s.OrderBudget > 0 {
		j.CA.Orders = &ordersJSON{Left: s.OrdersLeft, Limit: s.OrderBudget}
	}
	if h := r.soonest; h != nil {
		j.Counts.SoonestExpiry = &expiryJSON{Host: clean(h.Host, maxText), KeyType: h.KeyType, NotAfter: utc(h.NotAfter)}
	}
	for _, w := range s.Warnings {
		j.Warnings = append(j.Warnings, clean(w, maxText))
	}
	for _, h := range r.hosts {
		j.Hosts = append(j.Hosts, newHostJSON(h))
	}
	if j.Events == nil {
		j.Events = []audit.Event{} // an empty list, not null
	}
	return j
}

func newHostJSON(h *certmgr.HostStatus) hostJSON {
	j := hostJSON{
		Host:           clean(h.Host, maxText),
		KeyType:        h.KeyType,
		State:          h.State,
		StateSince:     utc(h.StateSince),
		Attention:      needsAttention(h),
		Late:           h.IsLate(),
		Cause:          causeKey(h),
		NotBefore:      utc(h.NotBefore),
		NotAfter:       utc(h.NotAfter),
		RenewAt:        utc(h.RenewAt),
		RenewBy:        h.RenewalCause,
		ExplanationURL: clean(h.ExplanationURL, maxText),
		RetryAt:        utc(h.RetryAt),
		Refused:        h.Refused,
		LastAsked:      utc(h.LastRequested),
		Issuer:         clean(h.Issuer, maxText),
		Profile:        clean(h.Profile, maxText),
		Group:          clean(h.Group, maxText),
		RenewalFailure: wholeError(h.RenewalFailure),
		Fallback:       h.Fallback,
		Source:         clean(h.Source, maxText),
		Successor:      utc(h.Successor),
	}
	if h.Issuing {
		j.InFlight = &inFlightJSON{
			Since:   utc(h.IssuingSince),
			Stage:   h.Stage,
			Waiting: h.Waiting,
			Holder:  clean(h.Holder, maxName),
		}
	}
	if f := h.Failure; f != nil {
		j.Failure = &failureJSON{
			Stage:    f.Stage,
			Time:     utc(f.Time),
			Attempts: f.Attempts,
			Attempt:  clean(f.Attempt, maxText),
			CA:       clean(f.CA, maxText),
			State:    failureState(f),
			URL:      text.Line(f.URL, maxText),
			Hint:     text.Line(f.Hint(), maxText),
			Error:    wholeError(f.Err),

			UnpauseURL: clean(f.UnpauseURL, maxLink),
		}
	}
	return j
}

// utc returns t in UTC, or the zero time if JSON cannot represent it: a CA may
// date a certificate to the year 10000.
func utc(t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}
