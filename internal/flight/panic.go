package flight

import (
	"fmt"
	"path"
	"runtime"
	"strings"

	"github.com/nostall/nostall/internal/text"
)

// Death is the error of a callback that ended without returning. It says in one
// line of bounded length how and where.
type Death struct {
	call  string // callback and key
	what  string // what happened
	where string // stack, innermost function first; empty if unknown
}

const (
	maxPanicValue = 256
	maxPanicTrace = 400
)

// Error includes where it happened.
func (d *Death) Error() string {
	if d.where == "" {
		return d.Brief()
	}
	return d.Brief() + " (in " + d.where + ")"
}

// Brief is Error without the stack.
func (d *Death) Brief() string { return d.call + ": " + d.what }

// Unwrap returns ErrPanic.
func (d *Death) Unwrap() error { return ErrPanic }

// died returns the error for a callback that panicked with r, or called
// runtime.Goexit if r is nil. It must be called by a deferred function of the
// callback's goroutine.
func (c *Callouts) died(key string, r any) error {
	d := &Death{call: text.OneLine(fmt.Sprintf("%s for %q", c.name, key), maxPanicValue), what: "callback called runtime.Goexit"}
	if r != nil {
		d.what = ErrPanic.Error() + ": " + text.OneLine(fmt.Sprint(r), maxPanicValue)
		d.where = text.OneLine(panicTrace(), maxPanicTrace)
	}
	return d
}

// panicTrace returns the functions on the stack at the panic, innermost first.
// It must be called by a deferred function.
func panicTrace() string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	var trace []string
	for {
		frame, more := frames.Next()
		switch {
		case frame.Function == "runtime.gopanic":
			trace = trace[:0] // the frames so far handle the panic
		case strings.HasPrefix(frame.Function, "runtime."): // how a fault becomes a panic
		default:
			trace = append(trace, fmt.Sprintf("%s %s:%d", path.Base(frame.Function), path.Base(frame.File), frame.Line))
		}
		if !more {
			return strings.Join(trace, " < ")
		}
	}
}
