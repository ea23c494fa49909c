package flight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
)

func TestBriefIsTheInnermostCause(t *testing.T) {
	refused := errors.New("connection refused\nand more")
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"wrapped":         {fmt.Errorf("dial: %w", fmt.Errorf("connect: %w", refused)), "connection refused"},
		"of a panic":      {fmt.Errorf("dial: %w", &Death{call: `Dial for "a"`, what: "callback panicked: boom", where: "f a.go:1"}), `Dial for "a": callback panicked: boom`},
		"of a busy key":   {&Busy{What: "dialling a", Cause: refused}, `certmgr: too busy: dialling a: connection refused; and more`},
		"of several":      {errors.Join(errors.New("one"), errors.New("two")), "one"},
		"nothing at all":  {nil, "<nil>"},
		"without a cause": {context.DeadlineExceeded, "context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Brief(tt.err); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// Any error in the tree may be the timeout, and not the first alone that could
// be.
func TestIsTimeoutLooksAtTheWholeTree(t *testing.T) {
	quick := &os.PathError{Op: "read", Err: errors.New("no")} // has a method Timeout
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"nil":          {nil, false},
		"none":         {fmt.Errorf("x: %w", quick), false},
		"wrapped":      {fmt.Errorf("x: %w", context.DeadlineExceeded), true},
		"the second":   {errors.Join(quick, fmt.Errorf("x: %w", os.ErrDeadlineExceeded)), true},
		"a cancelling": {context.Canceled, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := IsTimeout(tt.err); got != tt.want {
				t.Errorf("%v", got)
			}
		})
	}
}
