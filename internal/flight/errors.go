package flight

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/internal/text"
)

// Errors of this package wrap these sentinels. Package certmgr exports them, so
// their texts carry its name.
var (
	// ErrBusy: a limit was reached, or a key is taken.
	ErrBusy = errors.New("certmgr: too busy")

	// ErrClosed: Tasks was closed.
	ErrClosed = errors.New("certmgr: manager closed")

	// ErrPanic: a callback panicked or ended its goroutine.
	ErrPanic = errors.New("callback panicked")
)

// ErrNotYet is returned by Call.WaitFor when its time is up.
var ErrNotYet = errors.New("certmgr: not done yet")

// Busy is the error of a caller that was turned away. It wraps ErrBusy and the
// cause.
type Busy struct {
	What  string    // the limit reached, or the call in the way
	Since time.Time // start of that call, or zero
	Cause error     // may be nil
}

// Error returns one line of bounded length.
func (b *Busy) Error() string {
	line := ErrBusy.Error() + ": " + b.What
	if !b.Since.IsZero() {
		line += " since " + text.Stamp(b.Since)
	}
	if b.Cause == nil {
		return text.OneLine(line, text.MaxError)
	}
	head := text.OneLine(line, text.MaxError/2) + ": "
	return head + text.Line(text.Cause(b.Cause), text.MaxError-len(head))
}

// Unwrap returns ErrBusy and the cause, if any.
func (b *Busy) Unwrap() []error {
	if b.Cause == nil {
		return []error{ErrBusy}
	}
	return []error{ErrBusy, b.Cause}
}

// Left is the error of a caller whose context ended before the call did.
type Left struct {
	Key   any // what the call is for, formatted with %v
	Cause error
	Began bool // the caller waited for a call that it began
}

// Error names the key.
func (e *Left) Error() string {
	return fmt.Sprintf("certmgr: %v: the handshake ended while waiting: %v", e.Key, e.Cause)
}

// Unwrap returns why the context ended.
func (e *Left) Unwrap() error { return e.Cause }

// Brief returns the innermost cause of an error as one line, or how a callback
// failed. The caller escapes texts from peers.
func Brief(err error) string {
	if death, ok := errors.AsType[*Death](err); ok {
		return death.Brief()
	}
	if !errors.Is(err, ErrPanic) && !errors.Is(err, ErrBusy) {
		for cause := errors.Unwrap(err); cause != nil; cause = errors.Unwrap(cause) {
			err = cause
		}
	}
	line, _, _ := strings.Cut(fmt.Sprint(err), "\n")
	return line
}

// IsTimeout reports whether any error in the tree of err is a time-out;
// errors.As would stop at the first error that has the method.
func IsTimeout(err error) bool {
	if t, ok := err.(interface{ Timeout() bool }); ok && t.Timeout() {
		return true
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return IsTimeout(e.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), IsTimeout)
	}
	return false
}
