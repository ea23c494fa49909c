package flight

import (
	"errors"
	"fmt"
	"time"

	"github.com/nostall/nostall/internal/text"
)

// The sentinels that errors of this package wrap. Package certmgr exports them, so
// that their texts are its own.
var (
	// ErrBusy: a bound was reached, or a key is taken.
	ErrBusy = errors.New("certmgr: too busy")

	// ErrClosed: Tasks was closed.
	ErrClosed = errors.New("certmgr: manager closed")

	// ErrPanic: a callback panicked or ended its goroutine.
	ErrPanic = errors.New("callback panicked")
)

// ErrNotYet is returned by Call.WaitFor when its time is over.
var ErrNotYet = errors.New("certmgr: not done yet")

// Busy is the error of one who was turned away. It wraps ErrBusy and the cause.
type Busy struct {
	What  string    // the bound that was reached, or what is under way
	Since time.Time // start of what is under way, or zero
	Cause error     // may be nil
}

// Error is one line of bounded length.
func (b *Busy) Error() string {
	line := ErrBusy.Error() + ": " + b.What
	if !b.Since.IsZero() {
		line += " since " + text.Stamp(b.Since)
	}
	if b.Cause == nil {
		return text.OneLine(line, text.MaxError)
	}
	head := text.OneLine(line, text.MaxError/2) + ": "
	return head + text.OneLine(text.Of(b.Cause), text.MaxError-len(head))
}

// Unwrap returns ErrBusy and the cause, if there is one.
func (b *Busy) Unwrap() []error {
	if b.Cause == nil {
		return []error{ErrBusy}
	}
	return []error{ErrBusy, b.Cause}
}

// Left is the error of one who left before a call ended.
type Left struct {
	Key   any // what the call is for; its text is its String method's, if it has one
	Cause error
}

// Error names the key.
func (e *Left) Error() string {
	return fmt.Sprintf("certmgr: %v: the handshake ended while it waited: %v", e.Key, e.Cause)
}

// Unwrap returns the cause of the end of the context.
func (e *Left) Unwrap() error { return e.Cause }
