package status

import (
	"math"
	"strconv"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/internal/text"
)

// row is a row of the table of hosts.
type row struct {
	Key     string // identifies the row
	Host    string
	KeyType string
	Link    string // to the host's own page
	State   string
	Class   string
	Late    bool // valid, but its renewal fails

	Fallback bool // its clients get Manager.Fallback

	Since  *moment
	Flight *flightView

	Expiry *moment
	Bar    *bar

	Next    *moment
	Why     string
	WhyLink string

	Refused string // empty if none
	Asked   string // when a client last asked; empty if never
	Failure *failureView
	Details []detail // only on the host's own page
	Act     *actView // likewise, without a Failure, which has its own
}

type flightView struct {
	Since   *moment // nil if it is when the state began
	Stage   string
	Waiting string // empty if none
	Renewal bool
	Holder  string // the machine that issues in place of this one; empty if none does
}

// failureView says why a host needs attention, and what to do first. All else
// is behind a disclosure, which is open on the host's own page.
type failureView struct {
	Title, Help, Runbook string

	Stage, Count string
	At           *moment
	Words        string // the error as it is, of the CA for the most part; empty if there is none
	Speaker      string // whose words they are
	Unpause      string // link to the CA's page that ends a pause, or empty
	Then         string // what happens next
	Retry        *moment
	Open         bool
	Act          *actView // nil if there is nothing to do
}

// detail is a fact shown only on the host's own page.
type detail struct{ Name, Value string }

// bar is a certificate's lifetime, drawn 100 units wide.
type bar struct {
	Gone  string // the part that is over
	Renew string // when renewal is due, or empty
	Class string
}

const (
	// maxWords is the longest error in the table of hosts, in bytes, and
	// maxAllWords that on a host's own page: all that certmgr keeps of one.
	maxWords    = 2048
	maxAllWords = 16 << 10
)

func newRow(h *certmgr.HostStatus, now time.Time, alone bool) row {
	host, keyType := clean(h.Host, maxName), clean(h.KeyType, maxName)
	r := row{
		Key:     host + "/" + keyType,
		Host:    host,
		KeyType: keyType,
		Link:    hostLink(h.Host),
		State:   stateName(h.State),
		Class:   stateClass(h.State),
		Late:    h.IsLate(),

		Fallback: h.Fallback,

		Since:   newMoment(h.StateSince, now),
		Expiry:  newMoment(h.NotAfter, now),
		Bar:     newBar(h, now),
		Asked:   asked(h.LastRequested, now),
		Failure: newFailure(h, now, alone),
	}
	if h.Refused > 0 {
		r.Refused = grouped(h.Refused)
	}
	if h.Issuing {
		r.Flight = &flightView{
			Stage:   clean(string(h.Stage), maxName),
			Renewal: h.State == certmgr.StateValid,
			Holder:  clean(h.Holder, maxName),
		}
		if !h.IssuingSince.Equal(h.StateSince) { // otherwise the state already shows it
			r.Flight.Since = newMoment(h.IssuingSince, now)
		}
		if h.Waiting > 0 {
			r.Flight.Waiting = plural(h.Waiting, "handshake waits", "handshakes wait")
		}
	}
	r.Next, r.Why, r.WhyLink = nextStep(h, now)
	if alone {
		r.Details = details(h)
	}
	if r.Failure != nil {
		r.Failure.Act = newActView(h)
	} else if alone {
		r.Act = newActView(h)
	}
	return r
}

// asked says when a client last asked, to the hour.
func asked(t, now time.Time) string {
	switch {
	case t.IsZero():
		return ""
	case now.Sub(t) < time.Hour:
		return "this hour"
	}
	return newMoment(t, now).Relative
}

// nextStep returns when the next attempt comes, and why.
func nextStep(h *certmgr.HostStatus, now time.Time) (at *moment, why, link string) {
	at = newMoment(next(h), now)
	switch {
	case h.Issuing:
		return nil, "", ""
	case h.Source != "" && h.Failure == nil:
		return nil, ownNext(h), ""
	case h.State != certmgr.StateValid && !now.Before(next(h)):
		return nil, "with the next visitor", ""
	case h.Failure != nil && h.Failure.State == certmgr.StateWaitingForDNS:
		return at, "probe: does it lead here?", ""
	case h.Failure != nil, h.State == certmgr.StateExpired, h.IsLate():
		return at, "retry", ""
	}
	switch h.RenewalCause {
	case certmgr.RenewalCauseCA:
		return at, "as the CA suggests (ARI)", webLink(h.ExplanationURL)
	case certmgr.RenewalCauseLifetime:
		return at, "by its lifetime", ""
	case certmgr.RenewalCauseTests:
		return at, "it is for tests", ""
	case certmgr.RenewalCauseUnneeded:
		return nil, "not renewed: no client needs it", ""
	}
	return at, clean(string(h.RenewalCause), maxName), ""
}

// ownNext says what becomes of a certificate of the operator's own.
func ownNext(h *certmgr.HostStatus) string {
	if !h.Successor.IsZero() {
		return "your own; the CA's is ready"
	}
	return "your own, not renewed"
}

// newFailure returns nil for a host that needs no attention.
func newFailure(h *certmgr.HostStatus, now time.Time, alone bool) *failureView {
	c := causes[causeKey(h)]
	if c == nil {
		return nil
	}
	v := &failureView{Title: c.title, Help: c.help, Runbook: c.link(), Open: alone}
	limit := maxWords
	if alone {
		limit = maxAllWords
	}
	err, what := h.RenewalFailure, "attempt"
	if f := h.Failure; f != nil {
		err = f.Err
		v.Stage, v.At, v.Unpause = clean(string(f.Stage), maxName), newMoment(f.Time, now), webLink(f.UnpauseURL)
		if f.Attempts > 1 {
			v.Count = ordinal(f.Attempts) + " in a row"
		}
		if f.State == certmgr.StateWaitingForDNS {
			what = "probe"
		}
	}
	if err != nil {
		v.Words, v.Speaker = text.Line(text.Of(err), limit), "the error in full"
		if len(problemKinds(err)) > 0 {
			v.Speaker = "the CA's words"
		}
	}
	switch {
	case h.Issuing && h.State == certmgr.StateValid:
		v.Then = "The valid certificate is served. The next attempt is in flight."
	case h.Issuing:
		v.Then = "The next attempt is in flight."
	case h.Source != "" && h.Failure == nil && h.State == certmgr.StateValid:
		v.Then = "The valid certificate is served until it ends."
	case h.Source != "" && h.Failure == nil:
		v.Then = "Visitors are refused, unless the host is on the list."
	case h.State == certmgr.StateValid:
		v.Then, v.Retry = "The valid certificate is served. Next "+what, newMoment(next(h), now)
	case now.Before(next(h)):
		v.Then, v.Retry = "Visitors are refused. Next "+what, newMoment(next(h), now)
	default:
		v.Then = "Visitors are refused. The next one begins an attempt."
	}
	return v
}

// newBar returns nil for a host without a certificate.
func newBar(h *certmgr.HostStatus, now time.Time) *bar {
	life := h.NotAfter.Sub(h.NotBefore)
	if h.NotAfter.IsZero() || h.NotBefore.IsZero() || life <= 0 {
		return nil
	}
	at := func(t time.Time) string {
		p := 100 * float64(t.Sub(h.NotBefore)) / float64(life)
		return strconv.FormatFloat(math.Min(100, math.Max(0, p)), 'f', 1, 64)
	}
	b := &bar{Gone: at(now), Class: "fine"}
	if !h.RenewAt.IsZero() {
		b.Renew = at(h.RenewAt)
	}
	switch {
	case !now.Before(h.NotAfter):
		b.Class = "over"
	case h.IsLate():
		b.Class = "late"
	}
	return b
}

// heldState returns the state of a host that the CA refuses until somebody
// acts, or "". It may have a valid certificate meanwhile.
func heldState(f *certmgr.IssuanceError) string {
	switch f.State {
	case certmgr.StatePaused, certmgr.StateRejected:
		return string(f.State)
	}
	return ""
}

// failureState is heldState, or that of a host that waits for DNS.
func failureState(f *certmgr.IssuanceError) string {
	if f.State == certmgr.StateWaitingForDNS {
		return string(f.State)
	}
	return heldState(f)
}

func details(h *certmgr.HostStatus) (list []detail) {
	add := func(name, value string) {
		if value != "" {
			list = append(list, detail{name, value})
		}
	}
	when := func(name string, t time.Time) {
		if !t.IsZero() {
			add(name, t.UTC().Format("2006-01-02 15:04:05"))
		}
	}
	when("State since", h.StateSince)
	add("Issued by", clean(h.Issuer, maxText))
	add("Profile of the next order", clean(h.Profile, maxText))
	add("Shares the certificate of the group of", clean(h.Group, maxText))
	when("Valid from", h.NotBefore)
	when("Valid until", h.NotAfter)
	when("Renewal due", h.RenewAt)
	add("Renewed by", clean(string(h.RenewalCause), maxName))
	add("The CA's explanation", clean(h.ExplanationURL, maxText))
	when("Issuing since", h.IssuingSince)
	when("Next attempt", h.RetryAt)
	if f := h.Failure; f != nil {
		when("Last failure", f.Time)
		add("Failed attempt", clean(f.Attempt, maxName))
		add("Failed at CA", clean(f.CA, maxText))
		add("State by the CA", heldState(f))
		add("The CA's page to unpause", clean(f.UnpauseURL, maxLink))
		add("Failed at URL", text.Line(f.URL, maxText))
		add("Sooner", text.Line(f.Hint(), maxText))
	}
	return list
}
