package certmgr

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/nostall/nostall/internal/account"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// maxBrief is the longest text of the error of a refused handshake, in bytes.
// Servers log it for each client.
const maxBrief = 200

// handshakeError is the error of a refused handshake: its text says in short
// which host was refused, why, and until when. What it wraps says more.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return briefOf(e.err).String() }
func (e *handshakeError) Unwrap() error { return e.err }

// brief returns the error of a handshake that this package refused with err. An
// error of HostPolicy must not be passed: it is the user's.
func brief(err error) error {
	if err == nil {
		return nil
	}
	if r, ok := err.(*refusal); ok && r.cause == nil && r.since.IsZero() && len(r.kind.Error()+r.host+r.text)+len(": : ") <= maxBrief {
		return err // which is what scanners get; its text is short
	}
	return &handshakeError{err}
}

// inFull undoes brief, for events.
func inFull(err error) error {
	if e, ok := err.(*handshakeError); ok {
		return e.err
	}
	return err
}

// briefText is the text of a handshakeError.
type briefText struct {
	kind string // of the sentinel; the package's name if there is none
	host string
	why  string
	root string // the innermost cause, if the end of why is not cut with its end
	tail string // what is not cut
}

func (b briefText) String() string {
	head := b.kind
	if b.host != "" {
		head += ": " + shortHost(b.host)
	}
	if b.why != "" {
		head += ": "
	}
	return text.OneLine(head+b.reason(maxBrief-len(head)-len(b.tail))+b.tail, maxBrief)
}

// reason returns why in at most room bytes. Its middle is left out if the
// innermost cause would not be seen otherwise.
func (b briefText) reason(room int) string {
	why := text.OneLine(b.why, maxBrief)
	if len(why) <= room || b.root == "" {
		return text.OneLine(why, room)
	}
	root := text.OneLine(b.root, room*2/3)
	return text.OneLine(why, room-len(root)-len(": ")) + ": " + root
}

const ownName = "certmgr"

func briefOf(err error) briefText {
	switch e := err.(type) {
	case *caRefusal:
		b := e.refusal.brief()
		if e.cause != nil && e.kind != ErrBadSetting {
			b.why, b.root = briefCause(e.cause)
		}
		b.tail = nextAttempt(e.retryAt)
		return b
	case *refusal:
		return e.brief()
	case *IssuanceError:
		return e.brief()
	case *flight.Left:
		return briefText{kind: ownName, host: fmt.Sprint(e.Key), why: "the handshake ended while waiting: " + text.Of(e.Cause)}
	}
	return briefText{kind: text.Of(err)}
}

func (e *IssuanceError) brief() briefText {
	if e == nil {
		return briefText{kind: ownName}
	}
	if b, ok := briefOfSetting(e.Err); ok {
		return b
	}
	at := string(e.Stage)
	if e.Attempts > 1 {
		at += fmt.Sprintf(", failure %d in a row", e.Attempts)
	}
	b := briefText{kind: ownName, host: e.Host, tail: nextAttempt(e.RetryAt)}
	if problems := text.Problems(e.Err); len(problems) > 0 && !account.IsUnavailable(e.Err) {
		p := problems[len(problems)-1]
		if p.ProblemType != "" {
			b.why = fmt.Sprintf("%s (%s): %s", text.OneLine(p.ProblemType, maxBrief/4), at, text.Flat(p.Detail))
			return b
		}
	}
	why, root := briefCause(e.Err)
	b.why, b.root = fmt.Sprintf("failed (%s): %s", at, why), root
	return b
}

// briefOfSetting returns what err says of a setting, if it blames one.
func briefOfSetting(err error) (b briefText, ok bool) {
	if bad, ok := errors.AsType[*caRefusal](err); ok && bad.kind == ErrBadSetting {
		return briefOf(bad), true
	}
	return briefText{}, false
}

func (r *refusal) brief() briefText {
	if cause, ok := r.cause.(*IssuanceError); ok && r.text == "" {
		b := cause.brief()
		b.kind = r.kind.Error()
		return b
	}
	b := briefText{kind: r.kind.Error(), host: r.host, why: r.text}
	if r.cause != nil {
		if b.why != "" {
			b.why += ": "
		}
		why, root := briefCause(r.cause)
		b.why, b.root = b.why+why, root
	}
	if !r.since.IsZero() {
		b.tail = " since " + text.Stamp(r.since)
	}
	return b
}

// briefCause returns the text of a cause, which begins with the type of the
// CA's problem if there is one, and the innermost cause.
func briefCause(err error) (why, root string) {
	if e, ok := errors.AsType[*IssuanceError](err); ok {
		b := e.brief()
		return b.why, b.root
	}
	kind := ""
	if problems := text.Problems(err); len(problems) > 0 {
		if p := problems[len(problems)-1]; p.ProblemType != "" {
			kind = text.OneLine(p.ProblemType, maxBrief/4) + ": "
			if !account.IsUnavailable(err) {
				return kind + text.Flat(p.Detail), ""
			}
		}
	}
	if e, ok := errors.AsType[*acmeclient.RequestError](err); ok {
		return kind + "CA " + hostOfURL(e.URL) + ": " + text.Of(e.Err), flight.Brief(e.Err)
	}
	if kind != "" {
		return kind + text.Cause(err), "" // it says what to do
	}
	why, root = text.Cause(err), strings.TrimPrefix(flight.Brief(err), "certmgr: ")
	if root == why {
		root = ""
	}
	return why, root
}

func hostOfURL(s string) string {
	if u, err := url.Parse(s); err == nil {
		return shortHost(u.Host)
	}
	return "at an odd URL"
}

// maxBriefHost is how much of a host a brief text shows, in bytes. Few are
// longer.
const maxBriefHost = 63

// shortHost leaves out the middle of a long host name: its beginning tells it
// from its siblings, its end says whose it is.
func shortHost(host string) string {
	const mark = "..."
	if len(host) <= maxBriefHost {
		return host
	}
	half := (maxBriefHost - len(mark)) / 2
	return strings.ToValidUTF8(host[:half], "") + mark + strings.ToValidUTF8(host[len(host)-half:], "")
}
