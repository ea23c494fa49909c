package text

import (
	"fmt"
	"path"
	"runtime"
	"strings"
)

const (
	// MaxStack is the longest stack, in bytes.
	MaxStack = 4 << 10

	maxFrames = 64 // functions on a stack
	maxWhere  = 256
)

// PanicStack returns the function that panicked, or called runtime.Goexit, and
// the functions on the stack at that point, innermost first: one line each, of
// bounded length. It must be called by a deferred function.
func PanicStack() (where, stack string) {
	pcs := make([]uintptr, maxFrames)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	var calls []string
	for {
		frame, more := frames.Next()
		switch {
		case frame.Function == "runtime.gopanic", frame.Function == "runtime.Goexit":
			calls, where = calls[:0], "" // the frames so far handle the panic
		case strings.HasPrefix(frame.Function, "runtime."): // how a fault becomes a panic
		default:
			calls = append(calls, fmt.Sprintf("%s %s:%d", frame.Function, frame.File, frame.Line))
			if where == "" {
				where = fmt.Sprintf("%s %s:%d", path.Base(frame.Function), path.Base(frame.File), frame.Line)
			}
		}
		if !more {
			return OneLine(where, maxWhere), OneLine(strings.Join(calls, " < "), MaxStack)
		}
	}
}
