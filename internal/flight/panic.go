package flight

import (
	"errors"
	"fmt"

	"github.com/nostall/nostall/internal/text"
)

// Death is the error of a callback that ended without returning. It says in one
// line of bounded length how and where.
type Death struct {
	call  string // callback and key
	what  string // what happened
	where string // the function that it happened in; empty if unknown
	stack string // the functions on the stack, innermost first
}

const maxPanicValue = 256

// Error includes where it happened.
func (d *Death) Error() string {
	if d.where == "" {
		return d.Brief()
	}
	return d.Brief() + " (in " + d.where + ")"
}

// Brief is Error without the function.
func (d *Death) Brief() string { return d.call + ": " + d.what }

// Stack returns the functions on the stack when it happened, innermost first,
// in one line of at most text.MaxStack bytes.
func (d *Death) Stack() string { return d.stack }

// Unwrap returns ErrPanic.
func (d *Death) Unwrap() error { return ErrPanic }

// NewDeath returns the error for a callback that panicked with r, or called
// runtime.Goexit if r is nil. It must be called by a deferred function of the
// callback's goroutine.
func NewDeath(call string, r any) *Death {
	d := &Death{call: text.OneLine(call, maxPanicValue), what: "callback called runtime.Goexit"}
	if r != nil {
		d.what = ErrPanic.Error() + ": " + text.OneLine(fmt.Sprint(r), maxPanicValue)
	}
	d.where, d.stack = text.PanicStack()
	return d
}

// died is NewDeath for a call for key. It tells onDeath.
func (c *Callouts) died(key string, r any) error {
	d := NewDeath(fmt.Sprintf("%s for %q", c.name, key), r)
	if c.onDeath != nil {
		c.onDeath(c.name, d)
	}
	return d
}

// examine calls the methods of a callback's error once in the callback's
// goroutine. They are the user's code: those of a nil pointer panic, for
// example.
func examine(err error) {
	if err != nil {
		_ = errors.Is(err, ErrPanic)
		_ = IsTimeout(err)
	}
}
