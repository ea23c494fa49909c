package flight

import (
	"fmt"
	"path"
	"runtime"
	"strings"

	"github.com/nostall/nostall/internal/text"
)

// Death says in one line of bounded length how a callback came to its end
// without returning, and where.
type Death struct {
	call  string // which callback, for what
	what  string // what it did
	where string // innermost function first; empty if that is not known
}

const (
	maxPanicValue = 256
	maxPanicTrace = 400
)

// Error says where, too.
func (d *Death) Error() string {
	if d.where == "" {
		return d.Brief()
	}
	return d.Brief() + " (in " + d.where + ")"
}

// Brief is Error without where it happened.
func (d *Death) Brief() string { return d.call + ": " + d.what }

// Unwrap returns ErrPanic.
func (d *Death) Unwrap() error { return ErrPanic }

// died is the error for a callback that panicked with r, or called
// runtime.Goexit if r is nil. It is called by a deferred function of the
// callback's goroutine.
func (c *Callouts) died(key string, r any) error {
	d := &Death{call: text.OneLine(fmt.Sprintf("%s for %q", c.name, key), maxPanicValue), what: "callback called runtime.Goexit"}
	if r != nil {
		d.what = ErrPanic.Error() + ": " + text.OneLine(fmt.Sprint(r), maxPanicValue)
		d.where = text.OneLine(panicTrace(), maxPanicTrace)
	}
	return d
}

// panicTrace returns the functions that the goroutine was in when it panicked, the
// user's first. It may be called by a deferred function only.
func panicTrace() string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	var trace []string
	for {
		frame, more := frames.Next()
		switch {
		case frame.Function == "runtime.gopanic":
			trace = trace[:0] // what came after it is the handling of the panic
		case strings.HasPrefix(frame.Function, "runtime."): // how a fault becomes a panic
		default:
			trace = append(trace, fmt.Sprintf("%s %s:%d", path.Base(frame.Function), path.Base(frame.File), frame.Line))
		}
		if !more {
			return strings.Join(trace, " < ")
		}
	}
}
