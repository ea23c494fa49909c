package certmgr

import (
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

// failureRecord is the JSON form of a failure in the Cache, under the host's
// key and "+failure". In a crash loop it keeps the next process from asking the
// CA.
type failureRecord struct {
	Host       string      `json:"host"`
	KeyType    string      `json:"keyType,omitempty"` // empty means both
	Stage      audit.Stage `json:"stage"`
	CA         string      `json:"ca"`
	Account    string      `json:"account,omitempty"`
	Machine    string      `json:"machine,omitempty"`
	Process    string      `json:"process,omitempty"`
	Settings   string      `json:"settings,omitempty"` // the hash of settings.hash
	Attempt    string      `json:"attempt,omitempty"`
	Attempts   int         `json:"attempts"`       // 0 if none failed
	OfCA       int         `json:"ofCA,omitempty"` // the last of these, which were the CA's
	Time       time.Time   `json:"time"`
	RetryAt    time.Time   `json:"retryAt"`
	Asked      time.Time   `json:"asked,omitzero"` // the CA wants no attempt before
	Extra      []time.Time `json:"extra,omitempty"`
	Begun      []time.Time `json:"begun,omitempty"` // attempts without a known outcome; see attempts.go
	State      HostState   `json:"state,omitempty"`
	UnpauseURL string      `json:"unpauseURL,omitempty"`
	Cause      string      `json:"cause"`
	Problem    string      `json:"problem,omitempty"` // ACME problem type
	Status     int         `json:"status,omitempty"`
	Detail     string      `json:"detail,omitempty"`   // of the problem
	Instance   string      `json:"instance,omitempty"` // of the problem
	URL        string      `json:"url,omitempty"`
	ClockOff   bool        `json:"clockOff,omitempty"`
	Local      bool        `json:"local,omitempty"` // of this machine alone; see isLocal

	// Of an outage of the CA only.
	Since  time.Time `json:"since,omitzero"`   // the first failure
	Orders int       `json:"orders,omitempty"` // the attempts among the failures, which are probes too

	NoAccount bool `json:"noAccount,omitempty"` // it is the account that is unavailable
}

// newFailureRecord returns the record of a failure of sub, and its key.
func newFailureRecord(sub subject, f *failure) (key failureKey, rec failureRecord) {
	e := f.err
	at := f.key(sub)
	rec = failureRecord{
		Host:       e.Host,
		Stage:      e.Stage,
		CA:         e.CA,
		Account:    f.account,
		Machine:    f.by.machine,
		Process:    f.by.process,
		Settings:   f.by.settings,
		Attempt:    e.Attempt,
		Attempts:   e.Attempts,
		OfCA:       f.blame.ca,
		Time:       e.Time.UTC(),
		RetryAt:    f.end().UTC(),
		Asked:      f.asked.UTC(),
		State:      e.State,
		UnpauseURL: e.UnpauseURL,
		ClockOff:   f.clockOff,
		Local:      f.by.local,
	}
	for _, t := range f.extra.spent {
		rec.Extra = append(rec.Extra, t.UTC())
	}
	rec.setCause(e.Err)
	if at.scope != scopeHost {
		rec.KeyType = e.KeyType
	}
	return at, rec
}

// setCause records why it failed.
func (r *failureRecord) setCause(err error) {
	r.URL = acmeclient.URL(err)
	r.Cause = text.Line(text.Of(err), text.MaxError)
	if old, ok := err.(*recordedError); ok {
		r.Cause = old.bare
	}
	if problems := text.Problems(err); len(problems) > 0 {
		p := problems[len(problems)-1] // the problem that ended the attempt
		r.Problem, r.Status = p.ProblemType, p.StatusCode
		r.Detail, r.Instance = text.Line(text.Flat(p.Detail), text.MaxError), p.Instance
	}
}

// failure returns the record's failure for sub at now, or nil if it is about
// something else or too old.
func (r failureRecord) failure(sub subject, machine string, now time.Time) *failure {
	if r.Attempts == 0 || r.Host != sub.host() || r.CA != sub.ca || r.KeyType != "" && r.KeyType != sub.alg.String() {
		return nil
	}
	if r.ClockOff && (r.Machine != machine || r.Time.After(now)) {
		return nil // a wrong clock affects only its own machine, until it is set
	}
	if r.Local && r.Machine != machine {
		return nil
	}
	r = r.by(now)
	failed := r.Time
	if !now.Before(r.RetryAt) && now.Sub(failed) > maxRecordAge {
		return nil // too old to count
	}
	attempts := max(1, min(r.Attempts, 1000))
	ofCA := max(0, min(r.OfCA, attempts))
	latest := failed.Add(maxRestored)
	if r.ClockOff {
		latest = failed.Add(maxClockWait)
	}
	f := &failure{
		err: &IssuanceError{
			Host:     r.Host,
			KeyType:  sub.alg.String(),
			Stage:    r.Stage,
			CA:       r.CA,
			Attempt:  r.Attempt,
			Attempts: attempts,
			Time:     failed,
			RetryAt:  pace.Earlier(r.RetryAt, latest),
			URL:      acmeclient.PlainURL(r.URL),
			Err:      r.cause(),
			State:    StateBackoff,
		},
		account:  r.Account,
		by:       origin{r.Machine, r.Process, r.Settings, r.Local},
		since:    failed,
		asked:    pace.Earlier(r.Asked, latest),
		extra:    extra{spent: r.Extra[max(0, len(r.Extra)-maxExtraSettings):]},
		blame:    blame{host: attempts - ofCA, ca: ofCA, caSince: failed},
		clockOff: r.ClockOff,
		second:   r.KeyType != "" && isAboutHost(r.Stage),
	}
	if r.State.isHeld() {
		f.err.State = r.State
		if len(r.UnpauseURL) <= maxUnpauseURL {
			f.err.UnpauseURL = r.UnpauseURL
		}
	}
	return f
}

// by returns the record by a clock that says now. If the clock of the machine that has
// written it is ahead, or was, the waits are as long as they were meant to be.
func (r failureRecord) by(now time.Time) failureRecord {
	ahead := r.Time.Sub(now)
	if ahead <= 0 {
		return r
	}
	r.Time, r.RetryAt = now, r.RetryAt.Add(-ahead)
	if !r.Asked.IsZero() {
		r.Asked = r.Asked.Add(-ahead)
	}
	return r
}

// Limits on what a record in the Cache can cause: it may be damaged.
const (
	maxRestored   = 30 * 24 * time.Hour  // a backoff
	maxClockWait  = 400 * 24 * time.Hour // that of a wrong clock: half of a certificate's lifetime
	maxRecordAge  = 48 * time.Hour       // of a failure that counts although its backoff is over
	maxUnpauseURL = 2048                 // bytes
)

func (r failureRecord) cause() error {
	bare := text.Line(r.Cause, text.MaxError)
	e := &recordedError{text: bare + seenBy(r.Machine), bare: bare, url: acmeclient.PlainURL(r.URL)}
	if r.Problem != "" || r.Status != 0 {
		e.cause = acmeclient.BoundProblem(&acme.Error{
			StatusCode:  r.Status,
			ProblemType: r.Problem,
			Detail:      text.Line(r.Detail, text.MaxError),
			Instance:    r.Instance,
		})
	} else if r.Stage == audit.StagePreflight {
		e.cause = ErrUnreachable
	} else if r.Stage == audit.StageKey {
		e.cause = ErrKeySource
	}
	return e
}

// seenBy says which machine has written a record, after its cause.
func seenBy(machine string) string {
	if machine == "" {
		return ""
	}
	return " (seen by " + text.OneLine(machine, 100) + ")"
}

// recordedError is a cause read from the Cache.
type recordedError struct {
	text  string
	bare  string // without who saw it
	url   string
	cause error
}

func (e *recordedError) Error() string     { return e.text }
func (e *recordedError) Unwrap() error     { return e.cause }
func (e *recordedError) FailedURL() string { return e.url }
