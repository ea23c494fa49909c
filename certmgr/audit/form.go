package audit

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nostall/nostall/internal/text"
)

// String returns the event's text form: one line with the number, the time, the
// kind and key=value pairs in a fixed order. Strings are quoted, zero fields
// are left out. The form is stable: keys may be added but never change.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d %s %s", e.Seq, e.Time.UTC().Format(time.RFC3339Nano), e.Kind)
	for _, a := range e.attrs() {
		if a.Value.Kind() == slog.KindString {
			fmt.Fprintf(&b, " %s=%q", a.Key, a.Value.String())
			continue
		}
		fmt.Fprintf(&b, " %s=%s", a.Key, a.Value)
	}
	return b.String()
}

// LogValue implements slog.LogValuer. It returns a group of the kind and the
// pairs of the text form.
func (e Event) LogValue() slog.Value {
	return slog.GroupValue(append([]slog.Attr{slog.String("kind", string(e.Kind))}, e.attrs()...)...)
}

// attrs returns the fields that are set, in a fixed order. The keys are those
// of the JSON form, except for the duration, which slog prints with its unit.
func (e Event) attrs() []slog.Attr {
	attrs := make([]slog.Attr, 0, 12)
	str := func(key, val string) {
		if val != "" {
			attrs = append(attrs, slog.String(key, text.Line(val, text.MaxError)))
		}
	}
	when := func(key string, t time.Time) {
		if !t.IsZero() {
			attrs = append(attrs, slog.String(key, text.Stamp(t)))
		}
	}
	str("host", e.Host)
	str("key_type", e.KeyType)
	str("decision", string(e.Decision))
	str("rule", e.Rule)
	str("result", string(e.Result))
	str("remote_addr", e.RemoteAddr)
	str("sni", e.SNI)
	str("alpn", e.ALPN)
	str("names", e.Names)
	str("actor", e.Actor)
	str("attempt", e.Attempt)
	str("stage", string(e.Stage))
	str("reason", text.Flat(e.Reason))
	str("ca", e.CA)
	str("order_url", e.OrderURL)
	str("profile", text.Flat(e.Profile))
	if e.Duration != 0 {
		attrs = append(attrs, slog.Duration("duration", e.Duration))
	}
	str("serial", e.Serial)
	when("not_after", e.NotAfter)
	when("retry_at", e.RetryAt)
	if e.Count != 0 || e.Total != 0 {
		attrs = append(attrs, slog.Int("count", e.Count))
	}
	if e.Total != 0 {
		attrs = append(attrs, slog.Int("total", e.Total))
	}
	str("state", e.State)
	str("explanation_url", e.ExplanationURL)
	str("problem", e.problem())
	str("error", errorText(e.Err))
	if e.Stack != "" {
		attrs = append(attrs, slog.String("stack", text.OneLine(e.Stack, text.MaxStack)))
	}
	return attrs
}

// problem returns the type of the CA's problem document (RFC 8555, section 6.7)
// that ended the attempt, or "".
func (e Event) problem() string {
	if problems := text.Problems(e.Err); len(problems) > 0 {
		return problems[len(problems)-1].ProblemType
	}
	return ""
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return text.Of(err)
}

// eventJSON is the JSON form of an Event.
type eventJSON struct {
	Seq             uint64    `json:"seq"`
	Time            time.Time `json:"time"`
	Level           string    `json:"level"`
	Kind            Kind      `json:"kind"`
	Host            string    `json:"host,omitempty"`
	KeyType         string    `json:"key_type,omitempty"`
	Decision        Decision  `json:"decision,omitempty"`
	Rule            string    `json:"rule,omitempty"`
	Result          Result    `json:"result,omitempty"`
	RemoteAddr      string    `json:"remote_addr,omitempty"`
	SNI             string    `json:"sni,omitempty"`
	ALPN            string    `json:"alpn,omitempty"`
	Names           string    `json:"names,omitempty"`
	Actor           string    `json:"actor,omitempty"`
	Attempt         string    `json:"attempt,omitempty"`
	Stage           Stage     `json:"stage,omitempty"`
	Reason          string    `json:"reason,omitempty"`
	CA              string    `json:"ca,omitempty"`
	OrderURL        string    `json:"order_url,omitempty"`
	Profile         string    `json:"profile,omitempty"`
	DurationSeconds float64   `json:"duration_seconds,omitempty"`
	Serial          string    `json:"serial,omitempty"`
	NotAfter        time.Time `json:"not_after,omitzero"`
	RetryAt         time.Time `json:"retry_at,omitzero"`
	Count           int       `json:"count,omitempty"`
	Total           int       `json:"total,omitempty"`
	State           string    `json:"state,omitempty"`
	ExplanationURL  string    `json:"explanation_url,omitempty"`
	Problem         string    `json:"problem,omitempty"`
	Error           string    `json:"error,omitempty"`
	Stack           string    `json:"stack,omitempty"`
}

// MarshalJSON implements json.Marshaler. Times are in UTC, the duration is in
// seconds, level is INFO, WARN or ERROR, problem is the CA's problem type. Zero
// fields are left out. The form is stable: members may be added but never
// change.
func (e Event) MarshalJSON() ([]byte, error) {
	str := func(s string) string { return text.Line(s, text.MaxError) }
	return json.Marshal(eventJSON{
		Seq:             e.Seq,
		Time:            jsonTime(e.Time),
		Level:           e.Level().String(),
		Kind:            e.Kind,
		Host:            str(e.Host),
		KeyType:         e.KeyType,
		Decision:        e.Decision,
		Rule:            str(e.Rule),
		Result:          e.Result,
		RemoteAddr:      str(e.RemoteAddr),
		SNI:             str(e.SNI),
		ALPN:            str(e.ALPN),
		Names:           str(e.Names),
		Actor:           str(e.Actor),
		Attempt:         str(e.Attempt),
		Stage:           e.Stage,
		Reason:          str(text.Flat(e.Reason)),
		CA:              str(e.CA),
		OrderURL:        str(e.OrderURL),
		Profile:         str(text.Flat(e.Profile)),
		DurationSeconds: e.Duration.Seconds(),
		Serial:          e.Serial,
		NotAfter:        jsonTime(e.NotAfter),
		RetryAt:         jsonTime(e.RetryAt),
		Count:           e.Count,
		Total:           e.Total,
		State:           str(e.State),
		ExplanationURL:  str(e.ExplanationURL),
		Problem:         str(e.problem()),
		Error:           str(errorText(e.Err)),
		Stack:           text.OneLine(e.Stack, text.MaxStack),
	})
}

// jsonTime returns t in UTC, or the zero time if JSON cannot represent it: a CA
// may date a certificate to the year 10000.
func jsonTime(t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}
